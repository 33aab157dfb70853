#!/bin/bash
# Runs seeds of the simulation on all cores (or BATON_JOBS), optimised, and says how many a second, what they came to
# and which failed: dev/simulate.sh [SEEDS [FIRST_SEED]]. The first failure is shown with all that
# happened in it. The build takes minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/.."

export BATON_SEEDS="${1:-1000}" BATON_FIRST_SEED="${2:-1}"
for number in "$BATON_SEEDS" "$BATON_FIRST_SEED"; do
  case "$number" in
    '' | *[!0-9]*) printf 'error: not a number: %s\n' "$number" >&2; exit 2 ;;
  esac
done
exec cargo test --release --features testing --test simulation many -- --ignored --exact --nocapture
