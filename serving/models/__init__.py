"""Which models answer: found, tried, loaded, watched, kept."""
