#!/bin/bash
# Builds images that are not built yet and gives them to the cluster in use; one that
# is loaded already is not loaded again.
#
# usage: dev/images/load.sh NAME...   names: see build.sh
#   IMAGES   with CONTEXT: registry and path that the images are pushed to and pulled from
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/../kubernetes/cluster.sh"

images="$BATON_ROOT/dev/images"

load_local() {
  local name=$1 archive=$2 loaded ctr
  loaded="$state/images/$name"
  [ -n "$(holder)" ] || die "no local cluster here; start it with dev/kubernetes/up.sh"
  [ "$(cat "$loaded" 2>/dev/null)" != "$archive" ] || return 0
  ctr="$("$kube/build.sh" containerd)/usr/bin/ctr"
  step "loading image $name" "$logs/load-$name.log" \
    inside "$ctr" -a "$pids/containerd.sock" -n k8s.io images import "$archive"
  mkdir -p "$state/images"
  printf '%s\n' "$archive" >"$loaded"
}

# push ARCHIVE: to the registry. `skopeo login` beforehand, where it asks for one.
push() {
  local image
  image="$(tar -xOf "$1" manifest.json | jq -r '.[0].RepoTags[0]')"
  command -v skopeo >/dev/null || die "skopeo is missing, which pushes images: apt-get install skopeo"
  step "pushing $image" "$BATON_CACHE/logs/push.log" skopeo copy "docker-archive:$1" "docker://$image"
}

target="$("$kube/which.sh")"
[ "$target" != context ] || [ -n "${IMAGES:-}" ] ||
  die "a cluster of your own needs images from a registry that it can reach: IMAGES=registry.example/path"
for name in "$@"; do
  archive="$("$images/build.sh" "$name")"
  case $target in
    local) load_local "$name" "$archive" ;;
    kind) step "loading image $name" "$BATON_CACHE/logs/kind.log" \
      kind load image-archive "$archive" --name "$BATON_NAME" ;;
    context) push "$archive" ;;
  esac
done
