#!/usr/bin/env bash
# All tests, on a machine that has nothing but Debian, Rust, Go and npm: what tells of a mistake soonest
# comes first, what the tests need is made where it is missing, and the tests on a whole node come last.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=dev/lib.sh
. dev/lib.sh
[ "$(id -u)" = 0 ] || die "servers and network namespaces need root"

say "== sources"
dev/lint.sh

say "== what the tests need"
dev/tools.sh
for series in 5.6 9.7 mariadb10.11; do dev/mysql/fetch.sh "$series" >/dev/null; done
dev/kubernetes/build.sh localkube helm coredns runc containerd >/dev/null
dev/manifests.sh --check
cargo test --features testing --tests --no-run

say "== tests, on real servers and a real API server"
(
  # Beside a demo that runs, and never instead of it.
  export BATON_INSTANCE=test
  trap 'dev/kubernetes/down.sh' EXIT
  dev/kubernetes/up.sh --control-plane
  dev/kubernetes/enter.sh cargo test --features testing --tests -- --test-threads 2
)

say "== tests, on a whole node"
dev/test-node.sh
