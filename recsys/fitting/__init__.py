"""From purchase history to an offer model."""
