"""Volumes in and out of files: a fixed table from suffix to reader and writer, and atomic saving."""
