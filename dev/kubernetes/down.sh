#!/bin/bash
# Ends this checkout's local cluster and removes all of its state. Safe to run at
# any time, also after a crash and when there is no cluster; never touches the
# cluster of another checkout.
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/cluster.sh"

# thaw: a frozen process would not die (cgroup v1) and everybody would wait for it.
thaw() {
  [ -d "/sys/fs/cgroup/freezer/$BATON_NAME" ] || return 0
  find "/sys/fs/cgroup/freezer/$BATON_NAME" -name freezer.state |
    while read -r file; do echo THAWED >"$file" || true; done
}

# end_processes: the holder takes with it every process, mount and pod network.
end_processes() {
  local parent child
  parent="$(holder_parent)"
  [ -n "$parent" ] || return 0
  child="$(holder)"
  kill -KILL ${child:+"$child"} "$parent" 2>/dev/null || true
  for _ in $(seq 300); do
    [ -n "$(holder_parent)" ] || { [ -n "$child" ] && [ -d "/proc/$child" ]; } || return 0
    sleep 0.05
  done
  die "the cluster's process $parent does not end"
}

# remove_cgroups: children first; the kernel may need a moment after a kill.
remove_cgroups() {
  local top attempt
  for top in "/sys/fs/cgroup/$BATON_NAME" /sys/fs/cgroup/*/"$BATON_NAME"; do
    [ -d "$top" ] || continue
    for attempt in 1 2 3 4 5 6 7 8 9 10; do
      find "$top" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ -d "$top" ] || break
      sleep "0.$attempt"
    done
    [ ! -d "$top" ] || say "warning: $top could not be removed"
  done
}

# remove_mounts: none are expected; one left behind must not lose files of others.
remove_mounts() {
  awk -v below="$state/" 'index($2, below) == 1 { print $2 }' /proc/self/mounts |
    sort -r | while read -r path; do umount -l "$path"; done
}

remove_files() {
  [ ! -e "$netns" ] || ip netns del "$BATON_NAME"
  rm -rf --one-file-system "${state:?}" "${pids:?}" "${kubeconfig:?}"
}

take_turns
[ -e "$pids" ] || [ -e "$netns" ] || [ -e "$state" ] || exit 0
start=$(now_ms)
thaw
end_processes
remove_cgroups
remove_mounts
remove_files
say "- local Kubernetes of this checkout removed in $(seconds_since "$start") s"
