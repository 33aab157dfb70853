#!/bin/bash
# Runs cargo-deny over the dependencies (see deny.toml), at a pinned version that is built into the cache.
#
# usage: dev/deny.sh [ARGUMENTS...]   without: check licenses, bans and sources. Known vulnerabilities
#                                     (`dev/deny.sh check advisories`) need a database from the internet.
set -euo pipefail
# shellcheck source=dev/lib.sh
. "$(dirname "$0")/lib.sh"

version=0.20.2

# build FOLDER: it runs for a second, so it is not worth optimising.
build() {
  CARGO_PROFILE_DEV_DEBUG=0 cargo install --debug --locked --no-track --jobs "${BATON_JOBS:-$(nproc)}" \
    --root "$1" "cargo-deny@$version"
}

[ "$#" -gt 0 ] || set -- --log-level warn check --deny warnings bans licenses sources
folder="$(artifact cargo-deny "$version" "building cargo-deny (first time about 1 min on 2 cores)" build)"
cd "$BATON_ROOT"
exec "$folder/bin/cargo-deny" "$@"
