#!/bin/bash
# Everything that can be told about the sources without running them, one line a check. All checks run,
# so that one go tells all; what a failed one said is in .run/lint/.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=dev/lib.sh
. dev/lib.sh

failed=0

# check NAME COMMAND...
check() {
  local name=$1 log="$BATON_RUN/lint/$1.log" start
  shift
  start=$(now_ms)
  if "$@" >"$log" 2>&1; then
    say "- $name: clean ($(seconds_since "$start") s)"
  else
    failed=1
    say "error: $name failed; the end of $log:"
    tail -n 40 "$log" | sed 's/^/    /' >&2
  fi
}

for tool in clippy fmt; do
  cargo "$tool" --version >/dev/null 2>&1 || die "cargo $tool is missing: rustup component add clippy rustfmt"
done
command -v shellcheck >/dev/null || dev/tools.sh
mkdir -p "$BATON_RUN/lint"
check fmt cargo fmt --check
check shellcheck dev/shellcheck.sh
check clippy cargo clippy --all-targets --features testing -- -D warnings
# Nothing else builds what `make mutations` runs.
check clippy-mutations cargo clippy --test mutations --test model --features mutations -- -D warnings
check doc dev/doc.sh
check deny dev/deny.sh
# Without helm it is left to `make test`, which needs helm anyway.
if [ -d "$BATON_CACHE/helm/$(cd dev/kubernetes && hash_of tools)" ]; then
  check manifests dev/manifests.sh --check
else
  say "- manifests: left out, helm is not built yet (make test builds it)"
fi
exit "$failed"
