"""What passes between the rooms: column names, table schemas, configuration, offers and events."""
