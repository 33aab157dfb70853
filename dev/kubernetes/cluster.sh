#!/bin/bash
# What the scripts of the local Kubernetes share: where this checkout's cluster
# keeps its things and how they reach its processes. Meant to be sourced.
#
# All processes of a cluster live in three namespaces of their own: network, mount
# and process ids. The network namespace has a name (in /run/netns) so that
# anybody can enter it. The other two belong to one process, the holder, which is
# process 1 inside: when it dies the kernel ends everything in there and drops its
# mounts, so nothing can be left over and nobody else's process can be hit.
# shellcheck source=dev/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

kube="$BATON_ROOT/dev/kubernetes"
# State of the cluster, thrown away with it.
state="$BATON_RUN/kubernetes"
pki="$state/pki"
logs="$state/log"
# Pids are kept outside the checkout: `git clean` must not make us forget them.
pids="$BATON_SOCKETS"
netns="/run/netns/$BATON_NAME"
kubeconfig="$BATON_RUN/kubeconfig"
# The benchmark range 198.18.0.0/15 is never routed anywhere.
node_ip=198.18.0.1
node_name=node0
service_range=198.19.0.0/16
api_service_ip=198.19.0.1
dns_ip=198.19.0.10
pod_range=198.18.1.0/24
api_url="https://$node_ip:6443"
export kube state pki logs pids netns kubeconfig node_ip node_name service_range \
  api_service_ip dns_ip pod_range api_url

# take_turns: one script at a time may change the cluster of this checkout.
# Everything started later must close descriptor 8, or the lock would outlive us.
take_turns() {
  exec 8>"/run/$BATON_NAME.lock"
  flock -n 8 || { say "- waiting for another script that works on this cluster ..."; flock 8; }
}

# holder_parent: pid of the process above the holder; nothing when there is none.
# It is ours only if it names our run folder: pids are reused.
holder_parent() {
  local pid
  pid="$(cat "$pids/holder.pid" 2>/dev/null)" || return 0
  if tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -Fxq -e "--wd=$BATON_RUN"; then
    printf '%s\n' "$pid"
  fi
}

# holder: pid of process 1 of the cluster, as the host sees it; or nothing.
holder() {
  local parent
  parent="$(holder_parent)"
  [ -n "$parent" ] || return 0
  tr ' ' '\n' 2>/dev/null <"/proc/$parent/task/$parent/children" | sed -n 1p
}

# inside COMMAND...: runs in all namespaces of the cluster.
inside() {
  nsenter --target "$(holder)" --net --mount --pid -- "$@"
}

# alive NAME: is the daemon NAME running? Its pid counts inside the cluster only.
alive() {
  local pid
  pid="$(cat "$pids/$1.pid" 2>/dev/null)" || return 1
  inside grep -Fqz -e "$1" "/proc/$pid/cmdline" 2>/dev/null
}

# ensure NAME COMMAND...: starts the daemon NAME unless it runs. One of COMMAND's
# words contains NAME: that is how `alive` knows it again.
ensure() {
  local name=$1
  shift
  alive "$name" && return 0
  rm -f "$pids/$name.pid"
  # shellcheck disable=SC2016  # expanded by the inner shell, whose pid it is
  inside setsid --fork env -i PATH="${daemon_path:-$PATH}" HOME=/root bash -c \
    'echo "$$" >"$1"; exec 8>&- >>"$2" 2>&1 </dev/null; shift 2; exec "$@"' \
    start "$pids/$name.pid" "$logs/$name.log" "$@"
  until [ -s "$pids/$name.pid" ]; do sleep 0.01; done
}

# signal NAME SIGNAL: to a daemon of this cluster.
signal() {
  alive "$1" || die "$1 does not run in this checkout; start it with dev/kubernetes/up.sh"
  inside kill "-$2" "$(cat "$pids/$1.pid")"
}

# wait_for WHAT SECONDS NAME COMMAND...: until COMMAND succeeds; gives up when the
# time is over or the daemon NAME died, and then shows the end of its log.
wait_for() {
  local what=$1 deadline name=$3
  deadline=$(($(now_ms) + $2 * 1000))
  shift 3
  until "$@" >/dev/null 2>&1; do
    if ! alive "$name" || [ "$(now_ms)" -gt "$deadline" ]; then
      say "error: $what: gave up; the end of $logs/$name.log:"
      tail -n 25 "$logs/$name.log" | cut -c1-300 | sed 's/^/    /' >&2
      exit 1
    fi
    sleep 0.1
  done
}

# api PATH: asks the API server as administrator; a paused one is not waited for.
api() {
  nsenter --net="$netns" curl -sS --fail --noproxy '*' --max-time 5 --cacert "$pki/ca.crt" \
    --cert "$pki/admin.crt" --key "$pki/admin.key" "$api_url$1"
}
api_ready() { api /readyz; }
account_ready() { api /api/v1/namespaces/default/serviceaccounts/default; }
node_ready() {
  api "/api/v1/nodes/$node_name" |
    jq -e '.status.conditions[] | select(.type == "Ready" and .status == "True")'
}
