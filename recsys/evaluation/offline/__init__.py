"""Metrics of rankings, probabilities and policies without an experiment."""
