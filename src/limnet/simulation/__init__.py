"""Simulation: the robot user, defective masks and synthetic volumes."""
