"""Readouts from sums of groups, without rows: another tool's export, or what a readout itself wrote."""
