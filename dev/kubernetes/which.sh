#!/bin/bash
# Says which cluster the demo, dev/kubectl and dev/helm use:
#   context   the one that CONTEXT=NAME names. The ambient current context is never
#             used: nobody wants a demo in production by accident.
#   kind      a kind cluster of this checkout, where kind and a Docker engine are.
#   local     otherwise: the local Kubernetes that dev/kubernetes/up.sh starts.
# CLUSTER=local or CLUSTER=kind overrides the choice between the last two.
set -euo pipefail
# shellcheck source=dev/lib.sh
. "$(dirname "$0")/../lib.sh"

kind_works() {
  command -v kind >/dev/null && command -v docker >/dev/null &&
    timeout 5 docker info >/dev/null 2>&1
}

case "${CLUSTER:-}" in
  '' | local | kind) ;;
  *) die "CLUSTER is '$CLUSTER', may be local or kind" ;;
esac
if [ -n "${CONTEXT:-}" ]; then
  echo context
elif [ -n "${CLUSTER:-}" ]; then
  echo "$CLUSTER"
elif kind_works; then
  echo kind
else
  echo local
fi
