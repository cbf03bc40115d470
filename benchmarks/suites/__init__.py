"""One file per benchmark; `benchmarks.core.suite.SUITES` names them."""
