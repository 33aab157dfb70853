#!/bin/sh
# Starts the server of a container; on the first start it makes the data folder, the
# accounts and, for a replica, the replication channel.
#
#   SERVER_ID              unique in the cluster; default: the number at the end of the
#                          host name (as in a StatefulSet) + 1
#   REPORT_HOST            the name other servers reach this one by; default: host name
#                          and, if set, SERVICE (the StatefulSet's headless one)
#   MYSQLD_OPTIONS         more options for mysqld, separated by spaces
#   OPERATOR_USER/_PASSWORD      may do everything: the operator's account
#   REPLICATION_USER/_PASSWORD   may replicate from this server, and clone it
#   APP_USER/_PASSWORD           may use the schema APP_DATABASE (default app) only
#   SOURCE_HOST, SOURCE_PORT     first start only: replicate from there; without it, or
#                                if it is REPORT_HOST, start as a writable primary
#   SEMI_SYNC=1            acknowledge before commit returns, and never give up waiting
#
# Only the first start can be writable or start replication. Each later one is fenced
# (super_read_only, replication stopped): a server that returns cannot know whether it
# still is what it was. Accounts are made without being logged, so that the servers
# of a cluster have no transactions of their own.
#
# A first start that was interrupted is done again from the beginning.
set -eu

home=/var/lib/mysql
data=$home/data
files=$home/files
configured=$files/configured
run=/run/mysqld

# quote TEXT: as an SQL string.
quote() { printf "'"; printf '%s' "$1" | sed -e 's/\\/\\\\/g' -e "s/'/''/g"; printf "'"; }

# account NAME PASSWORD GRANT...: statements that make an account, or nothing.
account() {
  [ -n "$1" ] || return 0
  who="$(quote "$1")@'%'"
  echo "CREATE USER IF NOT EXISTS $who IDENTIFIED WITH caching_sha2_password BY $(quote "$2");"
  shift 2
  for grant in "$@"; do echo "GRANT $grant" | sed "s/@@WHO@@/$(printf %s "$who" | sed 's/[&/\\]/\\&/g')/;s/\$/;/"; done
}

# setup_statements: one statement a line, as mysqld's init_file wants it.
setup_statements() {
  # shellcheck disable=SC2016  # backquotes of SQL
  database="\`$(printf %s "${APP_DATABASE:-app}" | sed 's/`/``/g')\`"
  echo "SET sql_log_bin = 0;"
  echo "ALTER USER root@localhost IDENTIFIED WITH auth_socket AS 'mysql';"
  account "${OPERATOR_USER:-}" "${OPERATOR_PASSWORD:-}" "ALL ON *.* TO @@WHO@@ WITH GRANT OPTION"
  account "${REPLICATION_USER:-}" "${REPLICATION_PASSWORD:-}" "REPLICATION SLAVE, BACKUP_ADMIN ON *.* TO @@WHO@@"
  echo "CREATE DATABASE IF NOT EXISTS $database;"
  account "${APP_USER:-}" "${APP_PASSWORD:-}" "ALL ON $database.* TO @@WHO@@"
  [ -z "${SOURCE_HOST:-}" ] || replication_statements
  echo "SELECT 'first start done' INTO OUTFILE '$configured';"
}

replication_statements() {
  printf 'CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = %s, ' \
    "$(quote "$SOURCE_HOST")" "${SOURCE_PORT:-3306}"
  printf 'SOURCE_USER = %s, SOURCE_PASSWORD = %s, ' \
    "$(quote "${REPLICATION_USER:-}")" "$(quote "${REPLICATION_PASSWORD:-}")"
  echo "SOURCE_AUTO_POSITION = 1, SOURCE_SSL = 1, GET_SOURCE_PUBLIC_KEY = 1," \
    "SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 86400, SOURCE_HEARTBEAT_PERIOD = 0.5;"
  echo "START REPLICA;"
}

# make_data: the data folder, the whole of it or nothing.
make_data() {
  rm -rf "$data" "$data.new"
  mysqld --defaults-file="$run/my.cnf" --initialize-insecure --datadir="$data.new"
  mv "$data.new" "$data"
}

# first_start_options: what differs from each later start.
first_start_options() {
  echo "--init-file=$run/setup.sql"
  if [ -z "${SOURCE_HOST:-}" ]; then
    echo "--super-read-only=OFF --read-only=OFF"
    [ -z "${SEMI_SYNC:-}" ] || echo "--rpl-semi-sync-source-enabled=ON"
  fi
}

# settings: those that depend on the environment.
settings() {
  cat /usr/local/lib/baton/base.cnf
  echo "server_id = $SERVER_ID"
  echo "report_host = $REPORT_HOST"
  if [ -n "${SEMI_SYNC:-}" ]; then
    # loose: while the data folder is made there are no plugins.
    echo "loose_rpl_semi_sync_replica_enabled = ON"
    echo "loose_rpl_semi_sync_source_wait_for_replica_count = 1"
    echo "loose_rpl_semi_sync_source_wait_no_replica = ON"
    echo "loose_rpl_semi_sync_source_wait_point = AFTER_SYNC"
    echo "loose_rpl_semi_sync_source_timeout = 1000000000000"
  fi
}

host="$(hostname)"
if [ -z "${SERVER_ID:-}" ]; then
  ordinal="${host##*[!0-9]}"
  SERVER_ID="$((${ordinal:?the host name ends in no number: set SERVER_ID} + 1))"
fi
: "${REPORT_HOST:=$host${SERVICE:+.$SERVICE}}"
[ "${SOURCE_HOST:-}" != "$REPORT_HOST" ] || SOURCE_HOST=
mkdir -p "$files" "$run"
rm -f "$run/setup.sql"
settings >"$run/my.cnf"
options=
if [ ! -e "$configured" ]; then
  make_data
  (umask 077 && setup_statements >"$run/setup.sql")
  options="$(first_start_options)"
fi
# shellcheck disable=SC2086  # options are words
set -- $options ${MYSQLD_OPTIONS:-}
# The passwords are of no use to the server, and /proc would show them.
unset OPERATOR_PASSWORD REPLICATION_PASSWORD APP_PASSWORD
exec mysqld --defaults-file="$run/my.cnf" "$@"
