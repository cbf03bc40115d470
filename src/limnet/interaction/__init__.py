"""Interaction: clicks on one slice become that slice's mask (section II-B of the paper)."""
