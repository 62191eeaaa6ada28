"""One versioned directory that holds all a server needs, without pickle."""
