"""A case and its rounds: prompts, constraints, fusion, states and sessions."""
