#!/bin/bash
# Starts a primary and three replicas and waits until they take connections. Those of an earlier
# run are used again if they are well, else replaced.
set -euo pipefail
# shellcheck source=dev/demo/lib.sh
. "$(dirname "$0")/lib.sh"

# thaw: an earlier run may have ended while a server was frozen.
thaw() {
  local pod
  for pod in $(kube get pods --selector app=shop --output name); do
    signal CONT "$pod" 2>/dev/null || true
  done
}

gone() { [ -z "$(kube get service "$cluster-primary" --ignore-not-found --output name)" ]; }
well() { thaw && healthy; }

# remove: the cluster first, or Baton would see all servers die; then the servers with their data.
remove() {
  kube delete mysqlcluster "$cluster" --ignore-not-found
  until_true 90 "Service of the old cluster removed" "dev/kubectl -n $demo get services" gone
  kube delete statefulset db --ignore-not-found --cascade=foreground --timeout=90s
}

if [ -n "$(kube get mysqlclusters,statefulsets --output name)" ]; then
  (until_true 20 "servers of an earlier run well" "nothing: they are replaced" well) ||
    step "removing the servers of an earlier run" "$results/remove.log" remove
fi
say "- starting a primary and three replicas of MySQL 9.7 (about half a minute the first time) ..."
manifest "$here/servers.yaml" | kube apply --server-side --filename - >/dev/null
kube rollout status statefulset db --timeout=300s >&2 ||
  die "the servers did not start; look at: dev/kubectl -n $demo describe pods, dev/kubectl -n $demo logs db-0"
