"""Networks of the interaction part: plain modules without state."""
