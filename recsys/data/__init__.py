"""Reading, cleaning and simulating purchase history."""
