#!/bin/bash
# Searches the large worlds of tests/model completely, optimised, and says how many states each has. The small ones
# are part of the tests. Needs some gigabytes of memory; the build takes minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo test --release --features testing --test model -- --ignored --nocapture --test-threads 1
