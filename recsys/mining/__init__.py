"""Complements, substitutes and ladders mined from orders."""
