#!/bin/bash
# Shows on the running local cluster that the mysql image keeps its promises: replicas
# follow, accounts work, nobody has transactions of its own, the first primary is
# writable and semi-synchronous, and a server that crashed comes back fenced.
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/../kubernetes/cluster.sh"

kubectl() { "$BATON_ROOT/dev/kubectl" -n check-mysql "$@"; }

# sql ORDINAL STATEMENT: as administrator of that server, values separated by tabs.
sql() { kubectl exec "db-$1" -- mysql -N -B -e "$2"; }

# is WHAT WANTED GOT
is() {
  [ "$2" = "$3" ] || die "$1: wanted '$2', got '$3'"
  say "  ok: $1"
}

# value ORDINAL STATEMENT WANTED: WANTED within 20 s, else what there is.
value() {
  local got='' _
  for _ in $(seq 40); do
    got="$(sql "$1" "$2" 2>&1)" && [ "$got" = "$3" ] && break
    sleep 0.5
  done
  printf '%s\n' "$got"
}

# as USER PASSWORD STATEMENT: over the network, from a replica's pod to the primary.
# shellcheck disable=SC2016  # expanded in the pod
as() {
  kubectl exec db-1 -- sh -c 'MYSQL_PWD="$2" mysql -h db-0.db -u "$1" -N -B -e "$3"' as "$@"
}

clean_up() { kubectl delete namespace check-mysql --wait=false >/dev/null 2>&1 || true; }

"$BATON_ROOT/dev/images/load.sh" mysql
trap clean_up EXIT
kubectl delete namespace check-mysql --ignore-not-found --timeout=60s >/dev/null 2>&1
kubectl apply -f "$BATON_ROOT/dev/images/check-mysql.yaml" >/dev/null
kubectl rollout status statefulset db --timeout=120s >/dev/null
flags='SELECT @@super_read_only, @@rpl_semi_sync_source_enabled, @@rpl_semi_sync_replica_enabled'
is "first primary is writable, semi-sync source" $'0\t1\t1' "$(sql 0 "$flags")"
is "replica is fenced, semi-sync acker" $'1\t0\t1' "$(sql 1 "$flags")"
is "nobody has transactions of its own" "" "$(sql 0 'SELECT @@gtid_executed')$(sql 1 'SELECT @@gtid_executed')$(sql 2 'SELECT @@gtid_executed')"
password="$(kubectl get secret accounts -o jsonpath='{.data.OPERATOR_PASSWORD}' | base64 -d)"
is "operator account" operator "$(as operator "$password" 'SELECT SUBSTRING_INDEX(CURRENT_USER(), "@", 1)')"
as app app-password 'CREATE TABLE app.t (a INT PRIMARY KEY); INSERT INTO app.t VALUES (7)'
is "replica 2 follows" 7 "$(value 2 'SELECT a FROM app.t' 7)"
if as app app-password 'SET GLOBAL super_read_only = OFF' 2>/dev/null; then die "app may change the fence"; fi
say "  ok: app account has no power over the server"
"$kube/signal.sh" KILL check-mysql/db-0
is "after a crash the primary is fenced" $'1\t0\t1' "$(value 0 "$flags" $'1\t0\t1')"
is "and has its data" 7 "$(sql 0 'SELECT a FROM app.t')"
say "- check of the mysql image passed"
