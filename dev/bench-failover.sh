#!/usr/bin/env bash
# Measures failovers as writers see them, on real servers and a real API server. Arguments go to the
# benchmark; without any: everything that docs/performance.md shows, 20 runs each (20 minutes).
set -euo pipefail
cd "$(dirname "$0")/.."
dev/tools.sh
dev/mysql/fetch.sh 9.7 >/dev/null
dev/mysql/fetch.sh 5.6 >/dev/null
dev/kubernetes/build.sh localkube
# The operator too. Writers that are not optimised would take the servers' time.
cargo bench --features testing --bench failover --no-run
# Beside a demo that runs, and never instead of it.
export BATON_INSTANCE=bench
trap 'dev/kubernetes/down.sh' EXIT
dev/kubernetes/up.sh --control-plane
measure() { dev/kubernetes/enter.sh cargo bench --features testing --bench failover -- "$@"; }
if [ $# -gt 0 ]; then
  measure "$@"
else
  measure --server 9.7 --case kill,stop,cut --tier fast --enforce --semi-sync
  measure --server 9.7 --case kill,stop --tier standard --semi-sync
  measure --server 5.6 --case kill,stop --tier standard
  measure --server 5.6 --case kill,stop --tier fast --enforce
fi
