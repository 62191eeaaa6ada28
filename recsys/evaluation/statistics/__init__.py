"""Estimators and tests over arrays."""
