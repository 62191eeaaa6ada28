"""The training stage: purchase history in, a registered and gated bundle out."""
