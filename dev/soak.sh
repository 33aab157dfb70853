#!/bin/bash
# Noise without cause for a failover, for so many hours (0.25 is a quarter of one): dev/soak.sh HOURS. Fails on a
# needless failover, a lost row, a write to the API server while nothing happens, or memory that grows. BATON_SEED
# plays the noise of an earlier run again; each prints its own.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=dev/lib.sh
. dev/lib.sh

hours=${1:?usage: dev/soak.sh HOURS}
[[ $hours =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "not a number of hours: $hours"
export BATON_SEED="${BATON_SEED:-$(date +%s)}"
[[ $BATON_SEED =~ ^[0-9]+$ ]] || die "not a number: BATON_SEED=$BATON_SEED"
echo "seed $BATON_SEED"
BATON_SOAK_HOURS="$hours" BATON_INSTANCE="${BATON_INSTANCE:-soak}" exec dev/faults.sh "" noise_causes_no_failover
