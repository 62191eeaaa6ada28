"""What people decide about offers."""
