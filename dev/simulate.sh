#!/bin/bash
# Runs seeds of the simulation on all cores (or BATON_JOBS), optimised, and says how many a second, what they came to
# and which failed: dev/simulate.sh [SEEDS [FIRST_SEED]]. Without FIRST_SEED some of each kind (tests/simulation/scenario.rs).
# The first failure is shown with all that happened in it. The build takes minutes the first time.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds="${1:-1000}" first="${2:-}"
for number in "$seeds" "${first:-1}"; do
  case "$number" in
    '' | *[!0-9]*) printf 'error: not a number: %s\n' "$number" >&2; exit 2 ;;
  esac
done

# sweep SEEDS FIRST_SEED
sweep() {
  BATON_SEEDS="$1" BATON_FIRST_SEED="$2" \
    cargo test --release --features testing --test simulation many -- --ignored --exact --nocapture
}

if [ -n "$first" ]; then
  sweep "$seeds" "$first"
  exit
fi
failed=0
# First seed of a kind, and its share of a hundred.
for kind in 1:60 140000:10 10000000:10 20000000:10 30000000:5 40000000:5; do
  share=$((seeds * ${kind#*:} / 100))
  [ "$share" = 0 ] || sweep "$share" "${kind%:*}" || failed=1
done
exit "$failed"
