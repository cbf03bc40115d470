"""Benchmarks of limnet and of other methods: a package of the repository, not of the wheel; see README.md."""
