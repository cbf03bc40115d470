"""Networks of the quality part: plain modules without state."""
