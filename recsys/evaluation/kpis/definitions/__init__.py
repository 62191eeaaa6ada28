"""The KPIs' definitions, by subject."""
