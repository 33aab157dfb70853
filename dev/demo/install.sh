#!/bin/bash
# Installs or upgrades Baton with its Helm chart and waits until all its replicas are ready.
set -euo pipefail
# shellcheck source=dev/demo/lib.sh
. "$(dirname "$0")/lib.sh"

# The image keeps its name when its content changes; this makes new pods of it.
content="$(basename "$(dirname "$("$BATON_ROOT/dev/images/build.sh" baton)")")"

# owner: which release the custom resource definitions belong to, if any.
owner() {
  kubectl get crd mysqlclusters.mysql.baton.dev --ignore-not-found --output json |
    jq -r '.metadata.annotations["meta.helm.sh/release-name"] // "somebody else"'
}

install() {
  local options=()
  case "$(owner)" in
    '' | "$release") ;;
    *) options+=(--set crds.install=false) ;;
  esac
  helm upgrade --install "$release" "$BATON_ROOT/charts/baton" --namespace "$demo" --create-namespace \
    --set "namespaces={$demo}" --set image.repository="${IMAGES:-localhost}/baton" --set image.tag=dev \
    --set-string "podAnnotations.mysql\\.baton\\.dev/image=$content" \
    --wait --timeout 180s "${options[@]}"
}

step "installing Baton with Helm (less than a minute)" "$results/install.log" install
kube get deployment "$release" >&2
