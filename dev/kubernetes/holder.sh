#!/bin/bash
# Makes the namespaces of this checkout's cluster and the node's network in them,
# and starts the holder, the process that everything else lives and dies with. The
# file `network` among the pids says that all of it was done.
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/cluster.sh"

mkdir -p "$logs" "$pids"
ip netns add "$BATON_NAME"

# The working folder is of no use to the holder: it is how `holder_parent` tells
# our process from any other that may have got its pid.
setsid nsenter --net="$netns" unshare --mount --propagation private --pid --fork --kill-child \
  --mount-proc --wd="$BATON_RUN" catatonit -P </dev/null >"$logs/holder.log" 2>&1 8>&- &
echo "$!" >"$pids/holder.pid"
for _ in $(seq 100); do
  [ -z "$(holder)" ] || break
  sleep 0.02
done
[ -n "$(holder)" ] || die "the cluster's namespaces could not be made: $(cat "$logs/holder.log")"

# A bridge without ports stands for the network card: not every kernel has `dummy`
# links. The default route makes the node consider itself connected.
# shellcheck disable=SC2016  # expanded by the inner shell
inside bash -euc '
  ip link set lo up
  ip link add node0 type bridge
  ip addr add "$1/32" dev node0
  ip link set node0 up
  ip route add default dev node0
  echo 1 >/proc/sys/net/ipv4/ip_forward
' network "$node_ip"
touch "$pids/network"
