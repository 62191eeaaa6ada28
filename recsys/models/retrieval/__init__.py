"""Candidate sources: each proposes products to accounts from what was bought before a moment."""
