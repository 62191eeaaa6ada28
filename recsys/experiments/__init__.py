"""Experiment plans and deterministic assignment."""
