"""Faults of the data that make a decision wrong: each is looked for by a check of its own."""
