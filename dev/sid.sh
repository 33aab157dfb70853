#!/bin/bash
# Gives access to Debian's current packages (sid) without touching the host's own
# apt: MySQL 9.7, containerd 2 and the CNI plugins are newer there than in any
# release, and need nothing but a libc that a release has too.
#
# usage: dev/sid.sh FOLDER   makes a private apt state in FOLDER, prints its apt.conf
set -euo pipefail
# shellcheck source=dev/lib.sh
. "$(dirname "$0")/lib.sh"

# host_mirror: the archive this host already uses; its name is never written down.
host_mirror() {
  local files
  files="$(find /etc/apt -maxdepth 2 '(' -name '*.sources' -o -name '*.list' ')' -size +0)"
  # shellcheck disable=SC2086  # one path a word; apt allows no spaces in them
  sed -nE -e 's/^URIs: *([^ ]*).*/\1/p' -e 's/^deb +(\[[^]]*\] +)?([^ ]+).*/\2/p' $files |
    awk '/\/debian\/?$/ && !found { print; found = 1 }'
}

folder="${1:?usage: dev/sid.sh FOLDER}"
mirror="$(host_mirror)"
[ -n "$mirror" ] || die "no Debian archive in /etc/apt: this script needs a Debian host"
mkdir -p "$folder"/{state/lists/partial,cache/archives/partial,etc}
: >"$folder/state/status"
printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s sid main\n' \
  "$mirror" >"$folder/etc/sources.list"
cat >"$folder/apt.conf" <<CONF
Dir::State "$folder/state";
Dir::State::Lists "$folder/state/lists";
Dir::State::status "$folder/state/status";
Dir::Cache "$folder/cache";
Dir::Etc::SourceList "$folder/etc/sources.list";
Dir::Etc::SourceParts "/dev/null";
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
CONF
printf '%s\n' "$folder/apt.conf"
