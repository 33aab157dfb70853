#!/bin/bash
# Starts the writers in a pod of their own and waits until rows are acknowledged.
set -euo pipefail
# shellcheck source=dev/demo/lib.sh
. "$(dirname "$0")/lib.sh"

look="dev/kubectl -n $demo logs writers"
acknowledged() { history 2>/dev/null | jq -e '.acknowledged > 500' >/dev/null; }

say "- starting 8 writers that write through the Service $cluster-primary ..."
kube delete pod writers --ignore-not-found >/dev/null
manifest "$here/writers.yaml" | kube apply --server-side --filename - >/dev/null
kube wait pod writers --for=condition=Ready --timeout=60s >/dev/null || die "the writers did not start; look at: $look"
until_true 30 "first 500 rows acknowledged" "$look" acknowledged
