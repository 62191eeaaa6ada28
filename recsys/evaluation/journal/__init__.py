"""Over many experiments: what was decided, and what the programme as a whole has earned."""
