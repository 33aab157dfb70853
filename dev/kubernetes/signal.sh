#!/bin/bash
# Sends a signal to a program in a pod of this checkout's local cluster, from the node
# and so without the pod's or Kubernetes' help: KILL is a crash, STOP a hang, CONT
# ends the hang. Only pods of this cluster can be hit.
#
# usage: dev/kubernetes/signal.sh SIGNAL NAMESPACE/POD [PROGRAM]     default: mysqld
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/cluster.sh"

[ "$#" -ge 2 ] || die "usage: dev/kubernetes/signal.sh SIGNAL NAMESPACE/POD [PROGRAM]"
signal=$1 namespace=${2%%/*} pod=${2#*/} program=${3:-mysqld}

uid="$(api "/api/v1/namespaces/$namespace/pods/$pod" | jq -re .metadata.uid)" || die "no pod $namespace/$pod"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  top=/sys/fs/cgroup/$BATON_NAME
else
  top=/sys/fs/cgroup/pids/$BATON_NAME
fi
found=0
while read -r pid; do
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$program" ] || continue
  kill "-$signal" "$pid"
  found=1
done < <(find "$top" -path "*/pod$uid/*" -name cgroup.procs -exec cat {} +)
[ "$found" = 1 ] || die "no program $program runs in $namespace/$pod"
