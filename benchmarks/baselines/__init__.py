"""Baselines: other methods behind the `Predictor` protocol, to be measured on the same cases by the same robot user."""
