"""From candidates to a slate: eligibility, value, diversity, reasons."""
