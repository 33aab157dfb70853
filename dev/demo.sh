#!/bin/bash
# Shows Baton at work on a real Kubernetes and real MySQL servers: `make demo`. Kills the primary,
# freezes the next one, prints what clients noticed, and leaves everything running. Run again, it
# uses what is there.
#
# usage: [CONTEXT=NAME IMAGES=REGISTRY/PATH] dev/demo.sh       see dev/README.md, "Which cluster"
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=dev/lib.sh
. ./lib.sh

run() { kubernetes/run.sh "demo/$1.sh" "${@:2}"; }

start=$(now_ms)
command -v cargo >/dev/null || die "cargo is missing: install Rust (rustup.rs)"
kubernetes/start.sh
demo/build.sh
run install
run servers
run cluster
run writers
run strike KILL
run return KILL
run strike STOP
run return STOP
run report
say "- demo done in $(seconds_since "$start") s"
