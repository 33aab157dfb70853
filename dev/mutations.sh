#!/bin/bash
# Switches each safety rule off in turn, runs seeds of the simulation until one breaks an invariant, and
# writes docs/safety-rules.md; before that, some of them in worlds that are searched completely (tests/model).
# Fails when nothing notices. BATON_RULE=NAME tries one rule in the simulation and writes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
export BATON_BLESS=1
[ -n "${BATON_RULE:-}" ] || cargo test --release --features mutations --test model mutations -- --nocapture
exec cargo test --release --features mutations --test mutations -- --nocapture
