"""One file per benchmark; `benchmarks.core.registry.SUITES` names them."""
