"""KPIs: the registry of definitions, and their figures from tables."""
