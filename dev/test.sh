#!/usr/bin/env bash
# All tests: installs what is missing, fetches the MySQL servers, starts a Kubernetes control plane for
# the tests that need one and removes it at the end; then the tests that need a whole node.
set -euo pipefail
cd "$(dirname "$0")/.."
dev/tools.sh
for series in 5.6 9.7 mariadb10.11; do dev/mysql/fetch.sh "$series" >/dev/null; done
dev/kubernetes/build.sh localkube helm coredns runc containerd >/dev/null
dev/manifests.sh --check
cargo build --features testing --tests --bins
(
  # Beside a demo that runs, and never instead of it.
  export BATON_INSTANCE=test
  trap 'dev/kubernetes/down.sh' EXIT
  dev/kubernetes/up.sh --control-plane
  dev/kubernetes/enter.sh cargo test --features testing --tests -- --test-threads 2
)
dev/test-node.sh
