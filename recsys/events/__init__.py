"""The event store: what was shown, to whom, and what came of it."""
