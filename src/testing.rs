//! Fixtures for tests, benchmarks and the demo: real servers, networks that can be cut, writers that
//! remember what they were told. Compiled with the feature `testing` and for unit tests, never into
//! the operator.
pub mod api_server;
