#!/usr/bin/env bash
# The tests on a whole node: real helm, the operator and MySQL servers in pods. Starts a node of
# their own, gives it the images, and removes it at the end. A demo that runs is not touched.
#
# usage: dev/test-node.sh [TEST...]     names or parts of names; all without
#   BATON_KEEP=1      leaves the node for looking around: BATON_INSTANCE=node dev/kubectl ...
set -euo pipefail
cd "$(dirname "$0")/.."
export BATON_INSTANCE=node CLUSTER=local
# The tests' own build will do; a release build would take minutes.
export BATON_BINARY="${BATON_BINARY:-$PWD/target/debug/baton}"
dev/tools.sh
cargo test --features testing --test node --no-run
[ -n "${BATON_KEEP:-}" ] || trap 'dev/kubernetes/down.sh' EXIT
dev/kubernetes/up.sh
dev/images/load.sh mysql baton
dev/kubernetes/enter.sh cargo test --features testing --test node -- --nocapture "$@"
