#!/bin/bash
# What the steps of the demo share: where it lives, how to wait, and how to ask the
# writers. The steps run under dev/kubernetes/run.sh. Meant to be sourced.
# shellcheck source=dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# Everything of the demo is in this namespace, the operator too.
demo=baton-demo
release=baton-demo
cluster=shop
servers=4
results="$BATON_RUN/demo"
here="$BATON_ROOT/dev/demo"
export demo release cluster servers results here

kube() { kubectl --namespace "$demo" "$@"; }

# until_true SECONDS WHAT LOOK COMMAND...: waits until COMMAND succeeds. Gives up after SECONDS
# and says what to LOOK at.
until_true() {
  local seconds=$1 what=$2 look=$3 start=$SECONDS told=$SECONDS
  shift 3
  until "$@"; do
    [ $((SECONDS - start)) -lt "$seconds" ] || die "$what: not within $seconds s; look at: $look"
    if [ $((SECONDS - told)) -ge 5 ]; then
      say "  $what: waiting for $((SECONDS - start)) s, at most $seconds s"
      told=$SECONDS
    fi
    sleep 0.2
  done
}

# manifest FILE: with the images' names for the cluster in use.
manifest() { sed "s|image: localhost/|image: ${IMAGES:-localhost}/|" "$1"; }

shop() { kube get mysqlcluster "$cluster" --output json; }

# is_true CONDITION: holds now, and not only for an earlier spec.
is_true() {
  shop | jq -e --arg type "$1" '.metadata.generation as $now | .status.conditions // [] |
    any(.type == $type and .status == "True" and .observedGeneration == $now)' >/dev/null
}

# healthy: every server answers, one is the primary, all others follow it, and another of them
# could take over.
healthy() {
  shop | jq -e --argjson count "$servers" '.status | .primary as $primary | .servers // [] |
    length == $count and all(.state == "Answering") and
    all(.address == $primary or (.role == "Replica" and .source == $primary))' >/dev/null &&
    is_true Ready && is_true FailoverReady
}

# quarantined ADDRESS: prints why Baton keeps this server apart; fails when it does not.
quarantined() {
  shop | jq -re --arg address "$1" '.status.servers[] | select(.address == $address) | .problems // [] |
    map(select(startswith("quarantined"))) | first // empty'
}

# address_of POD: as the MysqlCluster names it.
address_of() { kube get pod "$1" --output json | jq -r '.status.podIP + ":3306"'; }

# pod_of ADDRESS: name of the pod that has this host:port.
pod_of() {
  kube get pods --selector app=shop --output json |
    jq -re --arg ip "${1%:*}" '.items[] | select(.status.podIP == $ip) | .metadata.name'
}

# signal SIGNAL POD: to the server in the pod, as a crash or a hang would hit it.
# shellcheck disable=SC2016  # expanded in the pod
signal() { kube exec "$2" -- sh -c 'kill "-$1" "$(pidof mysqld)"' signal "$1"; }

writers_path="/api/v1/namespaces/$demo/pods/writers:8080/proxy"
export writers_path
# What the writers saw until now, without the single rows.
history() { kubectl get --raw "$writers_path/history"; }
# tell PATH TEXT: posts TEXT to the writers and prints their answer.
tell() { kubectl create --raw "$writers_path/$1" --filename - <<<"$2"; }
