#!/bin/bash
# Removes the cluster that start.sh made. A cluster named by CONTEXT is somebody's
# own and is left as it is.
set -euo pipefail
# shellcheck source=dev/lib.sh
. "$(dirname "$0")/../lib.sh"

kube="$BATON_ROOT/dev/kubernetes"
case "$("$kube/which.sh")" in
  local) exec "$kube/down.sh" ;;
  kind) kind delete cluster --name "$BATON_NAME" --kubeconfig "$BATON_RUN/kubeconfig-kind" ;;
  context) say "- leaving the cluster of context $CONTEXT as it is" ;;
esac
