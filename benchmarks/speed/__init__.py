"""How fast limnet is: beside other tools, part by part, for a person who waits, and while it is imported."""
