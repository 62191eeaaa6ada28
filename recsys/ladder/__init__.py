"""The upgrade ladder: which product is the higher version of which."""
