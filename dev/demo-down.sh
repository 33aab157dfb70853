#!/bin/bash
# Removes everything that the demo made: `make demo-down`. A cluster of yours (CONTEXT) stays,
# without the demo; the local one and kind's go as a whole.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=dev/lib.sh
. ./lib.sh

[ "$(kubernetes/which.sh)" != context ] || kubernetes/run.sh demo/remove.sh
kubernetes/stop.sh
rm -rf "$BATON_RUN"
