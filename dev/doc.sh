#!/bin/bash
# Builds the API documentation of everything, private items too, into target/doc; a broken link is an error.
#
# --examples, of which there are none, makes cargo choose the features of dependencies as it does for tests:
# without it all of them would be built once more.
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTDOCFLAGS="-D warnings" exec cargo doc --no-deps --lib --examples --features testing --document-private-items
