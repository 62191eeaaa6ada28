"""The HTTP client of the offer engine."""
