"""Quality: which of two masks of a slice is the better one (section II-C of the paper)."""
