"""The next new product of an account."""
