"""How simulated accounts answer offers."""
