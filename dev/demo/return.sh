#!/bin/bash
# Waits until the server that was hit is back and fenced, and says what became of it: a replica, or
# quarantined because it wrote down what nobody was told is committed. Such a one is rebuilt.
#
# usage: dev/demo/return.sh KILL|STOP
set -euo pipefail
# shellcheck source=dev/demo/lib.sh
. "$(dirname "$0")/lib.sh"

signal="${1:?usage: dev/demo/return.sh KILL|STOP}"
pod="$(jq -r .pod "$results/$signal.json")"
address="$(address_of "$pod")"
look="dev/kubectl -n $demo describe mysqlcluster $cluster; dev/kubectl -n $demo logs $pod"

settled() { healthy || quarantined "$address" >/dev/null; }

# fenced: it may be written to by nobody, whoever asks.
fenced() { [ "$(kube exec "$pod" -- mysql -NBe 'SELECT @@super_read_only' 2>/dev/null)" = 1 ]; }

case $signal in
  KILL) say "- waiting for the container of $pod to start again ..." ;;
  STOP)
    say "- SIGCONT to $pod, which still takes itself for the primary ..."
    signal CONT "$pod"
    ;;
esac
until_true 120 "$pod back" "$look" settled
until_true 10 "$pod fenced" "$look" fenced
if why="$(quarantined "$address")"; then
  say "  $pod is fenced and $why"
  "$here/rebuild.sh" "$pod"
  became="fenced and quarantined, then rebuilt"
else
  became="fenced and made a replica"
fi
until_true 120 "$pod as a replica" "$look" healthy
say "  $pod is a replica of $(pod_of "$(shop | jq -r .status.primary)")"
jq --arg became "$became" '.became = $became' "$results/$signal.json" >"$results/$signal.new"
mv "$results/$signal.new" "$results/$signal.json"
