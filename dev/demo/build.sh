#!/bin/bash
# Builds the operator, the demo's clients and the images of both and of MySQL, and gives them
# to the cluster.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=dev/lib.sh
. dev/lib.sh

step "building Baton (first time about 8 min on 2 cores)" "$BATON_RUN/demo/build.log" \
  cargo build --release --features testing --bins
dev/images/load.sh mysql baton writers
