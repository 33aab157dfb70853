#!/bin/bash
# Brings up this checkout's local Kubernetes and waits until it can be used: a
# whole node, or with --control-plane only the API (enough for tests of resources,
# watches and leases, and three times as fast). Running it again checks the health
# of what is there, restarts what died and otherwise changes nothing.
#
# usage: dev/kubernetes/up.sh [--control-plane]      writes .run/kubeconfig
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/cluster.sh"

case "${1:-}" in
  '') parts=node ;;
  --control-plane) parts=control-plane ;;
  *) die "usage: dev/kubernetes/up.sh [--control-plane]" ;;
esac
[ "$(id -u)" = 0 ] || die "network namespaces and containers need root"

# build_all: before anything starts, as it may take minutes.
build_all() {
  "$kube/build.sh" localkube helm >/dev/null
  [ "$parts" = control-plane ] || "$kube/build.sh" coredns runc containerd >/dev/null
}

# complete: a cluster whose making was interrupted, or whose files somebody deleted
# (`git clean`), is made again.
complete() { [ -n "$(holder)" ] && [ -e "$pids/network" ] && [ -e "$pki/admin.crt" ] && [ -d "$logs" ]; }

build_all
take_turns
start=$(now_ms)
if ! complete; then
  flock -u 8
  "$kube/down.sh"
  take_turns
  "$kube/pki.sh"
  "$kube/holder.sh"
fi
"$kube/control-plane.sh"
say "- control plane ready after $(seconds_since "$start") s"
if [ "$parts" = node ]; then
  "$kube/node.sh"
  say "- node ready after $(seconds_since "$start") s"
fi
say "- use it with dev/kubectl and dev/helm, or dev/kubernetes/enter.sh COMMAND"
