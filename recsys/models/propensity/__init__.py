"""The classifier of any table of accounts."""
