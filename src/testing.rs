//! Fixtures for tests, benchmarks and the demo. Compiled with the feature `testing` and for unit tests,
//! never into the operator.
pub mod snapshot;
