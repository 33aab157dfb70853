#!/bin/bash
# Freezes and revives the API server of this checkout's local cluster: what clients
# see then is the worst kind of failure, a server that accepts and never answers.
#
# usage: dev/kubernetes/apiserver.sh pause|resume
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/cluster.sh"

case "${1:-}" in
  pause) signal kube-apiserver STOP ;;
  resume) signal kube-apiserver CONT ;;
  *) die "usage: dev/kubernetes/apiserver.sh pause|resume" ;;
esac
