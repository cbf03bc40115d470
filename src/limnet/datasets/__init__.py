"""Data sets: one file for each, with its reader and its data module."""
