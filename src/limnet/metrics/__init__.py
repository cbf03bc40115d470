"""Metrics: overlap, boundary and clicks-to-quality measures, with a per-case table."""
