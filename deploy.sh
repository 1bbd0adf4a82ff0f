#!/usr/bin/env bash
#
# Builds the zips of both Lambda functions in this folder:
#   valro-api-lambda.zip     the API
#   valro-worker-lambda.zip  the worker
#
# Usage: ./deploy.sh [--help]
#
# The functions run on the Python that builds the zips, because their byte code is inside.
# The same sources give the same zips, byte for byte.
#
# Needs bash and a Python that Lambda has a runtime for, with pip. Environment:
#   PYTHON           this Python (default: python3.11, or python3 if there is none)
#   VALRO_SDK_CACHE  folder for the installed AWS SDK (default: build/sdk here)

set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
LAMBDA_PYTHONS="3.11 3.12 3.13 3.14 3.15"

say() { printf '%s\n' "$@" >&2; }

# fail SENTENCE... says what is wrong and what to do, and ends the script.
fail() {
  say "deploy.sh: $1" "${@:2}"
  exit 1
}

choose_python() {
  local found=python3
  ! python3.11 -c '' 2>/dev/null || found=python3.11
  printf '%s\n' "${PYTHON:-$found}"
}

# require_lambda_python PYTHON ends the script unless Lambda has a runtime for this Python.
require_lambda_python() {
  local version
  version="$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" \
    || fail "there is no '$1' that runs." \
      "  Install Python 3.11, or name another one: PYTHON=/path/to/python3 ./deploy.sh"
  [[ " $LAMBDA_PYTHONS " == *" $version "* ]] \
    || fail "'$1' is Python $version, for which Lambda has no runtime that would do." \
      "  The functions can run on Python ${LAMBDA_PYTHONS// /, }." \
      "  Name one of these: PYTHON=/path/to/python3.11 ./deploy.sh"
  say "Building with '$1', for Lambda's runtime python$version."
}

main() {
  case "${1:-}" in
    "") ;;
    -h | --help) exec sed -n '3,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
    *) say "deploy.sh: unknown argument '$1'; see ./deploy.sh --help" && return 2 ;;
  esac

  local python
  python="$(choose_python)"
  require_lambda_python "$python"
  # From here on the interpreter itself, not a launcher that looks at the environment.
  python="$("$python" -c 'import sys; print(sys.executable)')"

  umask 022
  CACHE="${VALRO_SDK_CACHE:-$ROOT/build/sdk}"
  mkdir -p "$ROOT/build" "$CACHE"
  WORK="$(mktemp -d "$ROOT/build/deploy.XXXXXX")"
  trap 'rm -rf "$WORK" "$CACHE/new.${WORK##*/}"' EXIT
  # -Es: no PYTHON... variable and nothing that a user has installed is to show in the zips.
  (cd "$ROOT" && "$python" -EsB -m bundle --cache "$CACHE" --work "$WORK") \
    || fail "no zip was built; the lines above say why."
  say "Next: ./create-infrastructure.sh"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi
