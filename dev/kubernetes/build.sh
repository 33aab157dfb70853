#!/bin/bash
# Builds the programs of the local Kubernetes into the cache and prints one folder
# a line, in the order of the arguments. Every version is pinned: Go modules by
# go.sum, Debian packages by their series (Debian's sid moves; what was used is
# recorded in the folder's VERSIONS).
#
# usage: dev/kubernetes/build.sh PART...   parts: localkube coredns helm runc containerd
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=dev/lib.sh
. ../lib.sh

ldflags='-s -w'
jobs="${BATON_JOBS:-$(nproc)}"

# build_localkube FOLDER: without the version it would report v0.0.0-master, which
# clients and Helm charts that look at the version do not understand.
build_localkube() {
  local version
  version="$(cd localkube && go list -m -f '{{.Version}}' k8s.io/kubernetes)"
  (cd localkube && go build -p "$jobs" -trimpath -buildvcs=false -o "$1/" \
    -ldflags "$ldflags -X k8s.io/component-base/version.gitVersion=$version" .)
  ln -s localkube "$1/kubectl"
}

build_coredns() {
  (cd coredns && CGO_ENABLED=0 go build -p "$jobs" -trimpath -buildvcs=false -ldflags "$ldflags" -o "$1/" .)
}

build_helm() {
  local version
  version="$(cd tools && go list -m -f '{{.Version}}' helm.sh/helm/v4)"
  (cd tools && CGO_ENABLED=0 go build -p "$jobs" -trimpath -buildvcs=false -o "$1/" \
    -ldflags "$ldflags -X helm.sh/helm/v4/internal/version.version=$version" helm.sh/helm/v4/cmd/helm)
}

# build_runc FOLDER: Debian 12's own would do, but hides why a container failed.
build_runc() {
  (cd tools && CGO_ENABLED=1 go build -p "$jobs" -trimpath -buildvcs=false -tags seccomp \
    -ldflags "$ldflags" -o "$1/" github.com/opencontainers/runc)
}

# unpack_containerd FOLDER: Debian 12's containerd 1.6 is too old for this kubelet;
# sid's needs no newer libc than Debian 12 has.
unpack_containerd() {
  local apt_state package
  apt_state="$1.apt"
  APT_CONFIG="$(../sid.sh "$apt_state")"
  export APT_CONFIG
  apt-get update -qq
  (cd "$apt_state" && apt-get download containerd containernetworking-plugins)
  for package in "$apt_state"/*.deb; do
    dpkg-deb -x "$package" "$1"
    dpkg-deb -f "$package" Package Version | paste -sd ' ' >>"$1/VERSIONS"
  done
  rm -rf "$apt_state" "${1:?}"/usr/share
  cat "$1/VERSIONS"
  grep -Eq '^Package: containerd Version: 2\.' "$1/VERSIONS"
  grep -Eq '^Package: containernetworking-plugins Version: 1\.' "$1/VERSIONS"
  "$1/usr/bin/containerd" --version
}

# part NAME: prints the folder of one part.
part() {
  case $1 in
    localkube) artifact localkube "$(hash_of localkube)" \
      "building Kubernetes (first time about 6 min on 2 cores)" build_localkube ;;
    coredns) artifact coredns "$(hash_of coredns)" \
      "building CoreDNS (first time about 1 min)" build_coredns ;;
    helm) artifact helm "$(hash_of tools)" \
      "building Helm (first time about 2 min)" build_helm ;;
    runc) artifact runc "$(hash_of tools)" "building runc (about 10 s)" build_runc ;;
    containerd) artifact containerd "$(declare -f unpack_containerd | sha256sum | cut -c1-16)" \
      "unpacking containerd and the CNI plugins (about 10 s)" unpack_containerd ;;
    *) die "unknown part $1" ;;
  esac
}

[ "$#" -gt 0 ] || die "usage: dev/kubernetes/build.sh PART..."
command -v go >/dev/null || die "go is missing: 1.21 or newer will do, it fetches the version that go.mod names"
../tools.sh
for name in "$@"; do part "$name"; done
