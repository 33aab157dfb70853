#!/bin/bash
# Shared by every script in dev/: where things are kept, how long work is
# announced, and how an artifact is made once although two checkouts ask for it
# at the same moment. Meant to be sourced; it changes nothing by itself.
#
# Standard output belongs to results (a folder, a context name); everything a
# person reads goes to standard error.
set -euo pipefail
shopt -s inherit_errexit

BATON_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
# What is expensive to make, shared by all checkouts of this user.
BATON_CACHE="${BATON_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/baton}"
# A checkout may have several clusters at once: BATON_INSTANCE tells them apart, so that tests
# do not end the demo.
BATON_INSTANCE="${BATON_INSTANCE:-}"
# What belongs to the running cluster of this checkout.
BATON_RUN="$BATON_ROOT/.run${BATON_INSTANCE:+-$BATON_INSTANCE}"
# Unique for this checkout and instance: names its network namespace and its cgroups.
BATON_NAME="baton-$(printf %s "$BATON_ROOT${BATON_INSTANCE:+ $BATON_INSTANCE}" | sha256sum | cut -c1-6)"
# Sockets: a unix socket's path has at most 107 bytes, a checkout's may be longer.
BATON_SOCKETS="/run/$BATON_NAME"
export BATON_ROOT BATON_CACHE BATON_INSTANCE BATON_RUN BATON_NAME BATON_SOCKETS

# say TEXT...: one line for the person who waits.
say() { printf '%s\n' "$*" >&2; }

# die TEXT...: says why and ends the script.
die() { say "error: $*"; exit 1; }

# seconds_since START_MS: elapsed seconds with one digit.
seconds_since() {
  local elapsed=$(( $(now_ms) - $1 ))
  printf '%d.%d' $((elapsed / 1000)) $((elapsed % 1000 / 100))
}
now_ms() { date +%s%3N; }

# step WHAT LOG COMMAND...: announces, runs with its output in LOG, says every half
# minute how it goes on and at the end how long it took. A failure shows the end of LOG
# and ends the script. Say in WHAT how long it takes when that is more than some
# seconds. Never call it in a condition: bash would then ignore errors inside a
# COMMAND that is a function.
step() {
  local what=$1 log=$2 start status ticker
  shift 2
  mkdir -p "$(dirname "$log")"
  say "- $what ..."
  start=$(now_ms)
  : >"$log"
  tick "$start" "$log" >/dev/null &
  ticker=$!
  set +e
  (set -e; "$@") >"$log" 2>&1
  status=$?
  set -e
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  if [ "$status" -ne 0 ]; then
    say "error: $what failed after $(seconds_since "$start") s; the end of $log:"
    tail -n 25 "$log" | sed 's/^/    /' >&2
    exit "$status"
  fi
  say "  done in $(seconds_since "$start") s"
}

# tick START_MS LOG: says every half minute for how long something has been going on, and
# the last line it said. Waits without a process of its own, which would outlive it.
tick() {
  local start=$1 log=$2 never
  exec {never}<> <(:)
  while ! read -rt 30 -u "$never" && kill -0 "$$" 2>/dev/null; do
    say "  ... $(seconds_since "$start") s  $(tail -n 1 "$log" | tr -d '\r' | cut -c1-100)"
  done
}

# hash_of PATH...: 16 hex digits over names and contents; folders are walked.
# Paths are relative to the current folder so that checkouts agree.
hash_of() {
  find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16
}

# artifact NAME KEY WHAT COMMAND...: prints the folder $BATON_CACHE/NAME/KEY. When
# it is not there, runs COMMAND with an empty folder as one more argument and
# renames that folder into place, so that nobody ever sees a half-made one.
artifact() {
  local name=$1 key=$2 what=$3 folder lock
  shift 3
  folder="$BATON_CACHE/$name/$key"
  if [ ! -d "$folder" ]; then
    mkdir -p "$BATON_CACHE/$name" "$BATON_CACHE/locks" "$BATON_CACHE/tmp"
    lock="$BATON_CACHE/locks/$name"
    exec {lock_fd}>"$lock"
    flock -n "$lock_fd" || { say "- waiting for another checkout that makes $name ..."; flock "$lock_fd"; }
    [ -d "$folder" ] || make_artifact "$folder" "$name" "$what" "$@"
    exec {lock_fd}>&-
  fi
  touch "$folder" # when it was last used, for whoever cleans the cache
  printf '%s\n' "$folder"
}

# make_artifact FOLDER NAME WHAT COMMAND...: the part of `artifact` under the lock.
make_artifact() {
  local folder=$1 name=$2 what=$3 work
  shift 3
  work="$(mktemp -d "$BATON_CACHE/tmp/$name.XXXXXX")"
  chmod 755 "$work"
  step "$what" "$BATON_CACHE/logs/$name.log" "$@" "$work"
  mv -T "$work" "$folder"
}
