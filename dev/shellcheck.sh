#!/usr/bin/env bash
# Checks every shell script of the project.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files -z '*.sh' dev/kubectl dev/helm .ci/run | xargs -0 shellcheck -x
