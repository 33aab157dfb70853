#!/bin/bash
# Starts etcd, the API server and the controller manager of this checkout's cluster
# in the holder's namespaces and waits until a default service account exists: then
# everything a client may ask of a control plane works.
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/cluster.sh"

bin="$("$kube/build.sh" localkube)"
mkdir -p "$state/etcd"
# In memory: loading a large image keeps a small machine's disk busy, and the API must
# not have to wait for it. Like every mount of this cluster it ends with the holder.
alive etcd || inside findmnt -n "$state/etcd" >/dev/null ||
  inside mount -t tmpfs -o mode=700,size=1g etcd "$state/etcd"
# No etcd metrics port, no profiling: this cluster shares a small machine.
ensure etcd "$bin/localkube" etcd "$state/etcd" http://127.0.0.1:2379 http://127.0.0.1:2380
ensure kube-apiserver "$bin/localkube" kube-apiserver \
  --etcd-servers=http://127.0.0.1:2379 \
  --advertise-address="$node_ip" --bind-address=0.0.0.0 --secure-port=6443 \
  --tls-cert-file="$pki/server.crt" --tls-private-key-file="$pki/server.key" \
  --client-ca-file="$pki/ca.crt" --cert-dir="$pki" \
  --kubelet-certificate-authority="$pki/ca.crt" \
  --kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key" \
  --kubelet-preferred-address-types=InternalIP \
  --service-account-issuer=https://kubernetes.default.svc \
  --service-account-key-file="$pki/service-account.pub" \
  --service-account-signing-key-file="$pki/service-account.key" \
  --service-cluster-ip-range="$service_range" \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --allow-privileged --profiling=false
signal kube-apiserver CONT # somebody may have paused it
wait_for "API server" 120 kube-apiserver api_ready
# With its default limit of 20 requests a second it takes 5 s to create its accounts.
ensure kube-controller-manager "$bin/localkube" kube-controller-manager \
  --kubeconfig="$pki/controller-manager.kubeconfig" \
  --tls-cert-file="$pki/server.crt" --tls-private-key-file="$pki/server.key" --bind-address=127.0.0.1 \
  --service-account-private-key-file="$pki/service-account.key" --root-ca-file="$pki/ca.crt" \
  --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
  --use-service-account-credentials --leader-elect=false --profiling=false \
  --kube-api-qps=500 --kube-api-burst=1000 --flex-volume-plugin-dir="$state/volume-plugins"
wait_for "controller manager" 120 kube-controller-manager account_ready
