"""Images: a volume on its grid, slices of it, intensities, and their files (io)."""
