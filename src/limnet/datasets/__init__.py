"""Data sets: one file for each; `limnet.data.module.CaseDataModule` makes batches of any of them."""
