"""Learning a task from finished cases: a small adapter of the click network that proposes a mask without a click."""
