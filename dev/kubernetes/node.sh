#!/bin/bash
# Adds a node to this checkout's control plane (containerd, kubelet, kube-proxy, the
# scheduler and cluster DNS, all in the holder's namespaces) and waits until it is
# Ready.
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/cluster.sh"

mapfile -t folders < <("$kube/build.sh" localkube coredns runc containerd)
bin="${folders[0]}" coredns="${folders[1]}" runc="${folders[2]}/runc" containerd="${folders[3]}"
config="$state/config"

# prepare_mounts: the paths that containerd and kubelet have built in become this
# cluster's own. Only processes inside see that.
prepare_mounts() {
  mkdir -p "$state"/{kubelet,cni-results} /var/lib/kubelet /var/lib/cni /var/log/containers /run/containerd
  # shellcheck disable=SC2016  # expanded by the inner shell
  inside bash -euc '
    findmnt -n /var/lib/kubelet >/dev/null && exit 0
    mount -t tmpfs -o mode=755 pods /run/netns
    mount -t tmpfs -o mode=711 shims /run/containerd
    mount -t tmpfs -o mode=755 logs /var/log/containers
    mount --bind "$1/cni-results" /var/lib/cni
    mount --bind "$1/kubelet" /var/lib/kubelet
    mount --make-rshared /var/lib/kubelet
  ' mounts "$state"
}

# prepare_cgroups: kubelet removes pods it does not know from below its root; so
# every checkout's kubelet has a root of its own, in each hierarchy.
prepare_cgroups() {
  local top
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$BATON_NAME"
    return
  fi
  for top in /sys/fs/cgroup/*/; do
    mkdir -p "$top$BATON_NAME"
  done
  top=/sys/fs/cgroup/cpuset
  cat $top/cpuset.cpus >"$top/$BATON_NAME/cpuset.cpus"
  cat $top/cpuset.mems >"$top/$BATON_NAME/cpuset.mems"
}

# write_configs: the templates with this cluster's paths and addresses filled in.
write_configs() {
  local template
  mkdir -p "$config/cni"
  for template in "$kube"/config/*; do
    sed -e "s|@STATE@|$state|g" -e "s|@PKI@|$pki|g" -e "s|@SOCKETS@|$pids|g" \
      -e "s|@CONTAINERD@|$containerd|g" -e "s|@RUNC@|$runc|g" -e "s|@NAME@|$BATON_NAME|g" \
      -e "s|@NODE_IP@|$node_ip|g" -e "s|@NODE_NAME@|$node_name|g" \
      -e "s|@POD_RANGE@|$pod_range|g" -e "s|@DNS_IP@|$dns_ip|g" "$template" >"$config/$(basename "$template")"
  done
  mv "$config/pods.conflist" "$config/cni/"
}

start_containerd() {
  daemon_path="$containerd/usr/bin:$PATH" \
    ensure containerd "$containerd/usr/bin/containerd" -c "$config/containerd.toml"
  wait_for containerd 60 containerd test -S "$pids/containerd.sock"
}

start_node() {
  ensure kube-scheduler "$bin/localkube" kube-scheduler --kubeconfig="$pki/scheduler.kubeconfig" \
    --tls-cert-file="$pki/server.crt" --tls-private-key-file="$pki/server.key" --bind-address=127.0.0.1 \
    --leader-elect=false --profiling=false
  ensure kubelet "$bin/localkube" kubelet --config="$config/kubelet.yaml" \
    --kubeconfig="$pki/kubelet.kubeconfig" --cert-dir="$pki" \
    --hostname-override="$node_name" --node-ip="$node_ip"
  ensure kube-proxy "$bin/localkube" kube-proxy --config="$config/proxy.yaml"
}

# start_dns: a process of the node, not a pod: it needs no image and no restart.
start_dns() {
  alive coredns && return 0
  "$kube/enter.sh" kubectl apply --server-side --force-conflicts -f "$config/dns.yaml" >/dev/null
  ensure coredns "$coredns/coredns" -conf "$config/Corefile"
}

prepare_cgroups
prepare_mounts
write_configs
start_containerd
start_node
"$BATON_ROOT/dev/images/load.sh" pause
start_dns
wait_for "node" 180 kubelet node_ready
wait_for "cluster DNS" 60 coredns nsenter --net="$netns" curl -sf --max-time 2 "http://$node_ip:8181/ready"
