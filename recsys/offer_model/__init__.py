"""The tables that a request reads."""
