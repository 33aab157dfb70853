#!/bin/bash
# Prints what happened, as the writers saw it and as the records tell it, and where to look next.
set -euo pipefail
# shellcheck source=dev/demo/lib.sh
. "$(dirname "$0")/lib.sh"

# rows: one line a failover, values separated by tabs.
rows() {
  printf 'WHAT HAPPENED\tWRITE GAP\tFIRST SIGN\tFENCED\tCHOSEN\tWRITABLE\tROUTED\tROWS ACKNOWLEDGED\tROWS LOST\n'
  jq -r '["SIG\(.signal) to \(.pod)", (.gap_ms | round), 0, (.timings | .fenced, .chosen, .writable, .routed),
    .acknowledged, .lost] | map(. // "-") | @tsv' "$results/KILL.json" "$results/STOP.json"
}

# ends: what became of the servers that were hit.
ends() { jq -r '"\(.pod): \(.new) took over; when it came back, \(.became)"' "$results/KILL.json" "$results/STOP.json"; }

cat <<'TEXT'

All times in ms. The write gap is the writers': from the last row that the old primary acknowledged to
the first of the new one. The phases are the record's, counted from the first sign of the failure.

TEXT
rows | column -t -s $'\t'
cat <<TEXT

Every acknowledged row was looked for on the new primary. The old ones:

$(ends)

The cluster is as ready as before:

$(kube get mysqlclusters)

All of it goes on running. What to look at next:
  dev/kubectl -n $demo get mysqlclusters,mysqlfailovers
  dev/kubectl -n $demo describe mysqlcluster $cluster              conditions and events
  dev/kubectl -n $demo get mysqlfailover $(jq -r .record "$results/STOP.json") -o yaml       evidence, candidates, steps, timings
  dev/kubectl -n $demo get endpointslices                     whom the Service leads to
  dev/kubectl -n $demo logs deployment/$release --prefix --all-pods    what Baton says
  make demo                                                  again
  make demo-down                                             removes all of it
TEXT
