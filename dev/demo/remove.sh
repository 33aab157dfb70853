#!/bin/bash
# Removes the demo from a cluster that goes on. The custom resource definitions go too if they
# came with the demo and nobody else uses them.
set -euo pipefail
# shellcheck source=dev/demo/lib.sh
. "$(dirname "$0")/lib.sh"

# The clusters first: while Baton is there nothing of theirs stays behind.
kube delete mysqlclusters --all --ignore-not-found >&2 || true
helm uninstall "$release" --namespace "$demo" --ignore-not-found --wait >&2
kubectl delete namespace "$demo" --ignore-not-found --timeout=120s >&2
ours="$(kubectl get crds --output json | jq -r --arg release "$release" '.items[] |
  select(.spec.group == "mysql.baton.dev" and .metadata.annotations["meta.helm.sh/release-name"] == $release) | .metadata.name')"
[ -n "$ours" ] || exit 0
if [ -n "$(kubectl get mysqlclusters --all-namespaces --output name)" ]; then
  say "- the custom resource definitions stay: somebody else has a MysqlCluster"
else
  # shellcheck disable=SC2086  # one name a word
  kubectl delete crd $ours >&2
fi
