"""The simulated market: a seeded wholesaler whose planted truth is known."""
