"""Well-known layouts, by name."""
