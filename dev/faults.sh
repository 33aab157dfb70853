#!/bin/bash
# Plays real faults on real servers, operators and a real API server, and says what came of each:
# dev/faults.sh [NAME,... [TEST]]. An hour for all of them; the build takes minutes the first time. BATON_TIMES=20 plays
# each so often and says what came of all.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=dev/lib.sh
. dev/lib.sh
[ "$(id -u)" = 0 ] || die "servers and network namespaces need root"

export BATON_FAULTS="${1:-}" BATON_INSTANCE="${BATON_INSTANCE:-faults}"
test=${2:-every_fault_is_survived}
dev/tools.sh
for series in 5.6 9.7 mariadb10.11; do dev/mysql/fetch.sh "$series" >/dev/null; done
dev/kubernetes/build.sh localkube >/dev/null
# Servers, writers and operators share the processor: nothing of ours may be slow.
cargo test --release --features testing --test faults --no-run
trap 'dev/kubernetes/down.sh' EXIT
dev/kubernetes/up.sh --control-plane
dev/kubernetes/enter.sh cargo test --release --features testing --test faults "$test" -- --ignored --exact --nocapture
