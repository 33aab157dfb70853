#!/bin/bash
# Describes the servers to Baton in one MysqlCluster and waits until it would survive the loss
# of its primary.
set -euo pipefail
# shellcheck source=dev/demo/lib.sh
. "$(dirname "$0")/lib.sh"

look="dev/kubectl -n $demo describe mysqlcluster $cluster"
say "- handing the servers to Baton ..."
kube apply --server-side --filename "$here/cluster.yaml" >/dev/null
# What an earlier run left: a record that nobody took note of holds back the next failover.
kube annotate mysqlfailovers --all --overwrite mysql.baton.dev/acknowledged-by=demo >/dev/null
until_true 90 "READY" "$look" is_true Ready
until_true 90 "FAILOVER-READY with $servers servers" "$look" healthy
kube get mysqlclusters >&2
