#!/bin/bash
# Makes the cluster that which.sh chooses ready for use, whatever kind it is.
set -euo pipefail
# shellcheck source=dev/lib.sh
. "$(dirname "$0")/../lib.sh"

kube="$BATON_ROOT/dev/kubernetes"
case "$("$kube/which.sh")" in
  local) exec "$kube/up.sh" ;;
  kind)
    kind get clusters 2>/dev/null | grep -qx "$BATON_NAME" ||
      step "creating the kind cluster $BATON_NAME (about 1 min)" "$BATON_CACHE/logs/kind.log" \
        kind create cluster --name "$BATON_NAME" --wait 120s --kubeconfig "$BATON_RUN/kubeconfig-kind"
    ;;
  context)
    "$kube/run.sh" kubectl get --raw /readyz >/dev/null || die "the cluster of context $CONTEXT is not ready"
    say "- using context $CONTEXT"
    ;;
esac
