"""Trials that go on by themselves: damaged inputs, killed processes, long sessions."""
