"""The commands of `limnet`, one file each."""
