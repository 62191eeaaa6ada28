"""What happened since a model was trained."""
