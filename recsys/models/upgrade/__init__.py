"""The next higher rung of an account."""
