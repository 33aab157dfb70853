#!/bin/bash
# Runs a command (kubectl, helm, a test) against the cluster that which.sh chooses:
# its KUBECONFIG holds that one cluster and nothing else.
#
# usage: [CONTEXT=NAME] dev/kubernetes/run.sh COMMAND...
set -euo pipefail
# shellcheck source=dev/lib.sh
. "$(dirname "$0")/../lib.sh"

target="$("$BATON_ROOT/dev/kubernetes/which.sh")"
[ "$target" != local ] || exec "$BATON_ROOT/dev/kubernetes/enter.sh" "$@"

mkdir -p "$BATON_RUN"
config="$BATON_RUN/kubeconfig-$target"
umask 077
if [ "$target" = kind ]; then
  kind get kubeconfig --name "$BATON_NAME" >"$config"
else
  kubectl config view --context="$CONTEXT" --minify --flatten --raw >"$config"
fi
command -v helm >/dev/null || PATH="$("$BATON_ROOT/dev/kubernetes/build.sh" helm):$PATH"
KUBECONFIG="$config" exec "$@"
