"""LightningModules that train the three networks, and their losses."""
