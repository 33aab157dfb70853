#!/usr/bin/env bash
# Measures failovers as writers see them, on real servers and a real API server. Arguments go to the
# benchmark; without any: MySQL 9.7, semi-sync, tier Fast, SIGKILL and SIGSTOP.
set -euo pipefail
cd "$(dirname "$0")/.."
dev/tools.sh
dev/mysql/fetch.sh 9.7 >/dev/null
dev/mysql/fetch.sh 5.6 >/dev/null
dev/kubernetes/build.sh localkube
cargo build --release --features testing --bins
trap 'dev/kubernetes/down.sh' EXIT
dev/kubernetes/up.sh --control-plane
[ $# -gt 0 ] || set -- --server 9.7 --case kill --case stop --tier fast --enforce --semi-sync
dev/kubernetes/enter.sh cargo bench --features testing --profile dev --bench failover -- "$@"
