"""What a readout says in words."""
