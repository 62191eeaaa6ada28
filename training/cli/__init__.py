"""Commands of the training stage."""
