"""Before an experiment starts: how many accounts and days it needs, and how its plan would have judged the past."""
