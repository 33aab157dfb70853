#!/bin/bash
# Builds container images without an engine and prints one docker-archive file for
# each; nothing is built again that has not changed.
#
# usage: dev/images/build.sh NAME...   names: pause mysql baton writers
#   BATON_BINARY, BATON_WRITERS_BINARY   programs to put in, default: target/release
#   IMAGES                               registry and path of the images' names, default: localhost
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=dev/lib.sh
. ../lib.sh

# tag NAME: what pods call the image.
tag() {
  local prefix="${IMAGES:-localhost}"
  case $1 in
    pause) echo localhost/pause:1 ;;
    mysql) echo "$prefix/mysql:9.7" ;;
    baton) echo "$prefix/baton:dev" ;;
    writers) echo "$prefix/baton-writers:dev" ;;
    *) die "unknown image $1" ;;
  esac
}

# program NAME: the prebuilt program of an image of ours.
program() {
  local path
  case $1 in
    baton) path="${BATON_BINARY:-$BATON_ROOT/target/release/baton}" ;;
    writers) path="${BATON_WRITERS_BINARY:-$BATON_ROOT/target/release/baton-writers}" ;;
  esac
  [ -x "$path" ] || die "$path is not there: build it first, or name another in the environment"
  realpath "$path"
}

# inputs NAME: a line for everything that decides what is in the image.
inputs() {
  local path
  hash_of "$1"
  tag "$1"
  declare -f fill_root context build_image | sha256sum
  case $1 in
    pause) sha256sum </usr/bin/catatonit ;;
    mysql) basename "$(./mysql-rootfs.sh)" ;;
    baton | writers)
      path="$(program "$1")"
      sha256sum <"$path"
      ;;
  esac
}

# fill_root FOLDER PROGRAM NAME: the smallest root file system PROGRAM runs in.
fill_root() {
  local root=$1 program=$2 name=$3 library
  mkdir -p "$root/usr/bin"
  # Debug information is of no use in there, and in a build for tests a quarter of the file.
  strip --strip-debug -o "$root/usr/bin/$name" "$program"
  ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 755 "$(realpath "$library")" "$root$library"
  done
  install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  echo 'baton:x:65532:65532::/:/bin/false' >"$root/etc/passwd"
  echo 'baton:x:65532:' >"$root/etc/group"
  echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
  install -d -m 1777 "$root/tmp"
}

# context NAME FOLDER: everything that the Dockerfile copies.
context() {
  cp -r "$1/." "$2/"
  case $1 in
    pause) cp /usr/bin/catatonit "$2/" ;;
    # Hard links: the root file system is large and nobody writes to it.
    mysql) cp -al "$(./mysql-rootfs.sh)" "$2/rootfs" ;;
    baton) fill_root "$2/root" "$(program baton)" baton ;;
    writers) fill_root "$2/root" "$(program writers)" baton-writers ;;
  esac
}

# build_image NAME FOLDER: leaves FOLDER/image.tar.
build_image() {
  local name=$1 folder=$2 image store
  image="$(tag "$name")"
  store=(--storage-driver vfs --root "$folder/store" --runroot "$folder/runroot")
  mkdir "$folder/context"
  context "$name" "$folder/context"
  buildah "${store[@]}" bud --isolation chroot --quiet -t "$image" "$folder/context"
  buildah "${store[@]}" push --quiet "$image" "docker-archive:$folder/image.tar:$image"
  rm -rf "$folder"/{context,store,runroot}
}

[ "$#" -gt 0 ] || die "usage: dev/images/build.sh NAME..."
../tools.sh
for name in "$@"; do
  key="$(inputs "$name" | sha256sum | cut -c1-16)"
  folder="$(artifact "image-$name" "$key" "building the image $(tag "$name") (less than a minute)" build_image "$name")"
  printf '%s\n' "$folder/image.tar"
done
