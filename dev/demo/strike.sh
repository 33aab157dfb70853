#!/bin/bash
# Does harm to the primary's server, waits until Baton has made another one, and keeps what the
# writers and the record say about it.
#
# usage: dev/demo/strike.sh KILL|STOP     KILL: the process is gone; STOP: it hangs
set -euo pipefail
# shellcheck source=dev/demo/lib.sh
. "$(dirname "$0")/lib.sh"

signal="${1:?usage: dev/demo/strike.sh KILL|STOP}"
look="dev/kubectl -n $demo describe mysqlcluster $cluster; dev/kubectl -n $demo get mysqlfailovers -o yaml"

# finished EPOCH: the failover that begins this reign has ended, well or not.
finished() {
  shop | jq -e --argjson epoch "$1" '.status.epoch >= $epoch and
    (.status.lastFailover.phase | IN("Succeeded", "Failed", "Refused"))' >/dev/null
}

# noticed POD: the writers have left this pod's server for another.
noticed() { history | jq -e --arg pod "$1." '.gaps | last | .from | startswith($pod)' >/dev/null; }

# keep FILE POD RECORD ADDRESS: everything about this failover in one JSON file.
keep() {
  jq -n --arg signal "$signal" --arg pod "$2" --arg new "$(pod_of "$4")" \
    --argjson record "$(kube get mysqlfailover "$3" --output json)" \
    --argjson history "$(history)" --argjson verdict "$(tell check "$4")" \
    '{signal: $signal, pod: $pod, new: $new, record: $record.metadata.name, phase: $record.status.phase,
      timings: $record.status.timings, gap_ms: ($history.gaps | last | .gap_ms), changes: ($history.gaps | length),
      acknowledged: $verdict.acknowledged, lost: ($verdict.lost | length)}' >"$1"
}

state="$(shop)"
primary="$(jq -r .status.primary <<<"$state")"
epoch="$(jq -r '(.status.epoch // 0) + 1' <<<"$state")"
pod="$(pod_of "$primary")"
say "- SIG$signal to the primary, $pod ($primary) ..."
tell mark "SIG$signal $pod" >/dev/null
signal "$signal" "$pod"
until_true 60 "another primary" "$look" finished "$epoch"
state="$(shop)"
record="$(jq -r .status.lastFailover.record <<<"$state")"
phase="$(jq -r .status.lastFailover.phase <<<"$state")"
[ "$phase" = Succeeded ] || die "the failover $record ended as $phase; look at: $look"
until_true 30 "writers on the new primary" "dev/kubectl -n $demo get endpointslices" noticed "$pod"
kube annotate mysqlfailover "$record" --overwrite mysql.baton.dev/acknowledged-by=demo >/dev/null
mkdir -p "$results"
keep "$results/$signal.json" "$pod" "$record" "$(jq -r .status.primary <<<"$state")"
jq -r '"  \(.new) is the primary; nobody could write for \(.gap_ms | round) ms; \(.lost) rows lost"' "$results/$signal.json" >&2
