"""limnet for screens: the page of `limnet view` and the protocols of `limnet serve`. Needs the extra `view`."""
