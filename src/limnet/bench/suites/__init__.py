"""One file per benchmark; `limnet.bench.registry.SUITES` names them."""
