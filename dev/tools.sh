#!/bin/bash
# Installs the Debian packages that the scripts in dev/ call and that are not
# there yet. Says nothing and asks no archive when nothing is missing.
set -euo pipefail
# shellcheck source=dev/lib.sh
. "$(dirname "$0")/lib.sh"

packages=(
  binutils           # strip, for smaller images
  bsdextrautils      # column, for tables
  buildah            # images without an engine
  catatonit          # process 1 of the local node and of every container
  conntrack          # called by kube-proxy
  debian-archive-keyring
  curl
  iproute2
  jq
  libseccomp-dev     # for runc
  mmdebstrap         # root file systems from Debian packages
  mount
  nftables           # called by kube-proxy
  openssl
  pkg-config         # for runc
  procps
  shellcheck
  util-linux         # nsenter, unshare, flock
)

# missing: those of the packages that are not installed.
missing() {
  { dpkg-query -W -f '${Package} ${Status}\n' "${packages[@]}" 2>/dev/null || true; } |
    awk '/ installed$/ { print $1 }' | sort |
    comm -13 - <(printf '%s\n' "${packages[@]}" | sort)
}

install() {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
}

mapfile -t wanted < <(missing)
[ "${#wanted[@]}" -gt 0 ] || exit 0
mkdir -p "$BATON_CACHE/locks"
exec {lock_fd}>"$BATON_CACHE/locks/apt"
flock "$lock_fd"
step "installing ${wanted[*]} (less than a minute)" "$BATON_CACHE/logs/tools.log" install "${wanted[@]}"
