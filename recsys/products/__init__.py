"""What likeness of names, packs and prices says about products."""
