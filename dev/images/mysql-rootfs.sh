#!/bin/bash
# Makes the root file system of a MySQL 9.7 server out of Debian packages, once,
# and prints its folder. It is the content of the mysql image and also what tests
# run mysqld from without any container. Nobody may write below the folder.
#
# It holds mysqld and mysql (with the clone and semi-sync plugins), busybox as the
# shell, catatonit as process 1, and a user mysql (999:999).
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=dev/lib.sh
. ../lib.sh

wanted_series=9.7

# build FOLDER: extracts the packages without configuring them: a server needs
# its files only, and a folder without device nodes or /proc stays a plain folder.
build() {
  local root=$1
  ../sid.sh "$root.apt"
  mmdebstrap --mode=root --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
    --include=mysql-server-core,mysql-client-core,busybox-static,catatonit,ca-certificates,openssl \
    sid "$root" "$root.apt/etc/sources.list"
  rm -rf "$root.apt"
  link_usr "$root"
  add_shell_and_users "$root"
  remove_ballast "$root"
  check_version "$root"
  chroot "$root" /usr/bin/mysql --version
}

# link_usr ROOT: the merged-/usr links which a package script would have made.
link_usr() {
  local name
  for name in bin sbin lib lib64; do
    mkdir -p "$1/usr/$name"
    [ -e "$1/$name" ] || ln -s "usr/$name" "$1/$name"
  done
}

add_shell_and_users() {
  local root=$1 name
  for name in $("$root/usr/bin/busybox" --list); do
    [ -e "$root/usr/bin/$name" ] || [ -e "$root/usr/sbin/$name" ] || ln -s busybox "$root/usr/bin/$name"
  done
  cat >"$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
mysql:x:999:999:MySQL server:/var/lib/mysql:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
PASSWD
  printf 'root:x:0:\nmysql:x:999:\nnogroup:x:65534:\n' >"$root/etc/group"
  printf 'hosts: files dns\npasswd: files\ngroup: files\n' >"$root/etc/nsswitch.conf"
  install -d -o 999 -g 999 -m 750 "$root/var/lib/mysql" "$root/var/lib/mysql-files"
  install -d -o 999 -g 999 -m 755 "$root/run/mysqld"
  install -d -m 1777 "$root/tmp"
  mkdir -p "$root"/{proc,sys,dev}
}

# remove_ballast ROOT: half of the size is Perl, tools for other storage engines and
# plugins for clients; a smaller image is loaded into a cluster in half the time.
remove_ballast() {
  local root=$1
  rm -rf "$root"/usr/share/{doc,man,locale,info,lintian,bash-completion,perl,perl5} \
    "$root"/var/{cache,lib}/apt "$root/etc/apt" \
    "$root"/usr/bin/{perl*,perror,myisam*,my_print_defaults,ibd2sdi,innochecksum,mysqld_multi,mysqld_safe} \
    "$root"/usr/bin/mysql{_migrate_keyring,_secure_installation,_config_editor,_tzinfo_to_sql,check,import,show,slap,dumpslow} \
    "$root"/usr/lib/x86_64-linux-gnu/{perl*,libperl*} \
    "$root"/usr/lib/mysql/plugin/{authentication_*_client,*telemetry*}.so
}

check_version() {
  local root=$1 version
  version="$(chroot "$root" /usr/sbin/mysqld --version | sed -E 's/.*Ver ([0-9.]+).*/\1/')"
  echo "mysqld $version"
  case $version in
    "$wanted_series".*) printf '%s\n' "$version" >"$root/etc/mysql-version" ;;
    *) echo "Debian sid now has MySQL $version, wanted $wanted_series.x"; return 1 ;;
  esac
}

../tools.sh
artifact mysql-rootfs "$wanted_series-$(hash_of mysql-rootfs.sh)" \
  "making the MySQL $wanted_series root file system (about 20 s)" build
