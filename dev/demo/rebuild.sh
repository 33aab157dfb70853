#!/bin/bash
# What a person does with a quarantined server: tell Baton to leave it alone, make it a copy of the
# primary, and hand it back. What it wrote down on its own is thrown away here; it was acknowledged
# to nobody. Elsewhere it would be saved first.
#
# usage: dev/demo/rebuild.sh POD
set -euo pipefail
# shellcheck source=dev/demo/lib.sh
. "$(dirname "$0")/lib.sh"

pod="${1:?usage: dev/demo/rebuild.sh POD}"
primary="$(shop | jq -r .status.primary)"
look="dev/kubectl -n $demo logs $pod"

maintain() { kube patch mysqlcluster "$cluster" --type=merge --patch "$1" >/dev/null; }

# restarts: of the pod's container so far.
restarts() { kube get pod "$pod" --output json | jq '.status.containerStatuses[0].restartCount'; }
restarted() { [ "$(restarts)" -gt "$before" ] && kube exec "$pod" -- mysqladmin ping >/dev/null 2>&1; }

# clone: the server ends when it is done, and its container starts again with the copy.
clone() {
  kube exec --stdin "$pod" -- mysql --force <<SQL
SET GLOBAL clone_valid_donor_list = '$primary';
SET GLOBAL super_read_only = OFF;
CLONE INSTANCE FROM 'replication'@'${primary%:*}':${primary#*:} IDENTIFIED BY 'replication-password';
SQL
}

say "- rebuilding $pod from the primary ..."
mkdir -p "$results"
before="$(restarts)"
maintain "$(jq -n --arg address "$(address_of "$pod")" --arg until "$(date -u -d '+10 minutes' +%Y-%m-%dT%H:%M:%SZ)" \
  '{spec: {maintenance: [{servers: [$address], until: $until, reason: "rebuild", owner: "demo"}]}}')"
clone >"$results/clone.log" 2>&1 || true # the connection ends with the server
until_true 90 "$pod started with the copy" "$look; cat $results/clone.log" restarted
maintain '{"spec": {"maintenance": null}}'
