#!/usr/bin/env bash
# Writes manifests/baton.yaml, for people who use kubectl and not helm, from the chart with its defaults.
#
# usage: dev/manifests.sh [--check]     --check: writes nothing, fails when the file is not current
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=dev/lib.sh
. dev/lib.sh

# render: the chart with its defaults in a namespace of its own. Helm's marks and the
# request to keep resources mean nothing to kubectl.
render() {
  local helm
  helm="$(dev/kubernetes/build.sh helm)/helm"
  cat <<'HEADER'
# Generated from charts/baton by dev/manifests.sh: kubectl apply --server-side -f manifests/baton.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: baton
  labels:
    pod-security.kubernetes.io/enforce: restricted
HEADER
  "$helm" template baton charts/baton --namespace baton --set crds.keep=false |
    sed -e '/^ *helm.sh\/chart:/d' -e '/^# Source:/d' -e 's/managed-by: Helm$/managed-by: kubectl/'
}

case "${1:-}" in
  '') render >manifests/baton.yaml ;;
  --check)
    "$(dev/kubernetes/build.sh helm)/helm" lint --strict --quiet charts/baton >&2
    diff -u manifests/baton.yaml <(render) || die "manifests/baton.yaml is not current: run dev/manifests.sh"
    ;;
  *) die "usage: dev/manifests.sh [--check]" ;;
esac
