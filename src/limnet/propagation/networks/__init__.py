"""Networks of the propagation part: plain modules without state."""
