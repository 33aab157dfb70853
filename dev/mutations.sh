#!/bin/bash
# Switches each safety rule off in turn, runs seeds of the simulation until one breaks an invariant, and
# writes docs/safety-rules.md. Fails when nothing notices. BATON_RULE=NAME tries one rule and writes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
export BATON_BLESS=1
exec cargo test --release --features mutations --test mutations -- --nocapture
