"""Experiments that ran at the same time on the same units."""
