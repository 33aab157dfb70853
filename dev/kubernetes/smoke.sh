#!/bin/bash
# Shows that the running local cluster does what a cluster must: node Ready, a Job
# that completes, Service addresses, DNS, the API from inside a pod, logs and exec.
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/cluster.sh"

kubectl() { "$BATON_ROOT/dev/kubectl" "$@"; }

# expect WHAT LINE: LINE must be in the log of the client.
expect() {
  grep -Fq "$2" <<<"$client_log" || die "$1 failed: no '$2' in what the client says: $client_log"
  say "  ok: $1"
}

explain() {
  kubectl -n smoke get pods -o wide
  kubectl -n smoke logs job/client --tail=20
  kubectl -n smoke get events
}

clean_up() { kubectl delete namespace smoke --wait=false >/dev/null 2>&1 || true; }

"$BATON_ROOT/dev/images/load.sh" mysql
start=$(now_ms)
kubectl wait node "$node_name" --for=condition=Ready --timeout=60s >/dev/null
say "  ok: node Ready"
kubectl delete namespace smoke --ignore-not-found --timeout=60s >/dev/null 2>&1
trap clean_up EXIT
kubectl apply -f "$kube/smoke.yaml" >/dev/null
kubectl -n smoke wait job client --for=condition=Complete --timeout=90s >/dev/null ||
  die "the Job did not complete: $(explain)"
say "  ok: Job complete"
client_log="$(kubectl -n smoke logs job/client)"
expect "Service address and DNS" "service: served"
expect "DNS search path" "short name: served"
expect "API from inside a pod" "api: HTTP/1.0 200 OK"
[ "$(kubectl -n smoke logs web)" = listening ] || die "logs of the web pod are not what it wrote"
say "  ok: logs"
[ "$(kubectl -n smoke exec web -- cat /tmp/index.html)" = served ] || die "exec failed"
say "  ok: exec"
say "- smoke test passed in $(seconds_since "$start") s"
