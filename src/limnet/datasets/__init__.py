"""Datasets: one file and one DataModule per data set."""
