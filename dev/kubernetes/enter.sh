#!/bin/bash
# Runs a command on this machine but in the network of this checkout's local
# cluster, where the API server, Services and pods can be reached; KUBECONFIG is
# set and kubectl and helm are found.
#
# usage: dev/kubernetes/enter.sh COMMAND...
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/cluster.sh"

[ "$#" -gt 0 ] || die "usage: dev/kubernetes/enter.sh COMMAND..."
{ [ -e "$netns" ] && [ -e "$kubeconfig" ]; } || die "no local cluster here; start it with dev/kubernetes/up.sh"
mapfile -t folders < <("$kube/build.sh" localkube helm)
export KUBECONFIG="$kubeconfig" PATH="${folders[0]}:${folders[1]}:$PATH"
# Nothing in this network is behind a proxy.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY
exec nsenter --net="$netns" -- "$@"
