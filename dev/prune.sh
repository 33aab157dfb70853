#!/bin/bash
# Removes from the cache what no checkout has used for two weeks, and what was left
# half-made by a run that was interrupted. Everything in the cache can be made again.
set -euo pipefail
# shellcheck source=dev/lib.sh
. "$(dirname "$0")/lib.sh"

[ -d "$BATON_CACHE" ] || exit 0
find "$BATON_CACHE" -mindepth 2 -maxdepth 2 -type d -mtime +14 -not -path '*/logs/*' -print -exec rm -rf {} + >&2
find "$BATON_CACHE/tmp" -mindepth 1 -maxdepth 1 -mmin +120 -print -exec rm -rf {} + >&2
