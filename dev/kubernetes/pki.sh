#!/bin/bash
# Makes the certificates and kubeconfigs of one cluster: a certificate authority of
# its own, one serving certificate, and for every component a client certificate
# with the name that Kubernetes' built-in roles are bound to. So nothing in the
# cluster skips a check that a real one makes.
#
# usage: dev/kubernetes/pki.sh   fills .run/kubernetes/pki, writes .run/kubeconfig
set -euo pipefail
# shellcheck source=dev/kubernetes/cluster.sh
. "$(dirname "$0")/cluster.sh"

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

make_authority() {
  new_key ca.key
  openssl req -x509 -new -key ca.key -days 30 -subj "/CN=$BATON_NAME" -out ca.crt \
    -addext 'keyUsage=critical,keyCertSign,cRLSign'
}

# certify NAME SUBJECT USAGE [ALTERNATIVE_NAMES]
certify() {
  local name=$1 subject=$2 usage=$3 names=${4:-}
  new_key "$name.key"
  openssl req -new -key "$name.key" -subj "$subject" -out "$name.csr"
  {
    echo "keyUsage=critical,digitalSignature"
    echo "extendedKeyUsage=$usage"
    [ -z "$names" ] || echo "subjectAltName=$names"
  } >"$name.ext"
  openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" \
    -days 30 -extfile "$name.ext" -out "$name.crt" 2>/dev/null
  rm "$name.csr" "$name.ext"
}

# client NAME SUBJECT: a client certificate and the kubeconfig that uses it; all
# embedded, so that a kubeconfig can be copied anywhere.
client() {
  local name=$1
  certify "$name" "$2" clientAuth
  cat >"$name.kubeconfig" <<CONFIG
apiVersion: v1
kind: Config
current-context: $BATON_NAME
clusters:
- name: $BATON_NAME
  cluster:
    server: $api_url
    certificate-authority-data: $(base64 -w0 ca.crt)
users:
- name: $name
  user:
    client-certificate-data: $(base64 -w0 "$name.crt")
    client-key-data: $(base64 -w0 "$name.key")
contexts:
- name: $BATON_NAME
  context: {cluster: $BATON_NAME, user: $name}
CONFIG
}

umask 077
rm -rf "$pki"
mkdir -p "$pki"
cd "$pki"
make_authority
new_key service-account.key
openssl pkey -in service-account.key -pubout -out service-account.pub
certify server "/CN=$node_name" serverAuth "IP:$node_ip,IP:127.0.0.1,IP:$api_service_ip,DNS:$node_name,DNS:localhost,\
DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
client admin "/O=system:masters/CN=admin"
client kubelet-client "/O=system:masters/CN=kube-apiserver"
client controller-manager "/CN=system:kube-controller-manager"
client scheduler "/CN=system:kube-scheduler"
client kubelet "/O=system:nodes/CN=system:node:$node_name"
client proxy "/CN=system:kube-proxy"
client coredns "/CN=system:coredns"
cp admin.kubeconfig "$kubeconfig"
