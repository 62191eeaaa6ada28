"""Who buys or climbs next: retrieval, point-in-time features, calibrated classifiers."""
