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
SDK_CACHE="${VALRO_SDK_CACHE:-$ROOT/build/sdk}"
LAMBDA_PYTHONS="3.11 3.12 3.13 3.14 3.15"
# Removed at the end, whatever happens.
WORK=""
NEW_SDK=""

say() {
  printf '%s\n' "$@" >&2
}

# fail SENTENCE... says what is wrong and what to do, and ends the script.
fail() {
  say "deploy.sh: $1" "${@:2}"
  exit 1
}

# choose_python prints the Python to build with.
choose_python() {
  if [[ -n ${PYTHON:-} ]]; then
    printf '%s\n' "$PYTHON"
  elif python3.11 -c '' 2>/dev/null; then
    printf 'python3.11\n'
  else
    printf 'python3\n'
  fi
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

# install_sdk PYTHON FOLDER installs what requirements.txt pins. The folder appears only when complete.
install_sdk() {
  local installer="$1"
  say "Installing what requirements.txt pins (once; about 15 MB to fetch) ..."
  if ! "$installer" -m pip --version >/dev/null 2>&1; then
    "$installer" -m venv "$WORK/venv" >/dev/null 2>&1 || fail "'$1' has no pip." \
      "  On Debian and Ubuntu: apt install python3-pip. Elsewhere: $1 -m ensurepip"
    installer="$WORK/venv/bin/python"
  fi
  mkdir -p "$SDK_CACHE"
  NEW_SDK="$(mktemp -d "$SDK_CACHE/new.XXXXXX")"
  # A user's own pip settings stay, for the index that they name, except those that would
  # contradict --target.
  PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 "$installer" -m pip install \
    --quiet --no-input --disable-pip-version-check \
    --require-hashes --no-deps --only-binary :all: --no-compile \
    --target "$NEW_SDK" --requirement "$ROOT/requirements.txt" >"$WORK/pip.log" 2>&1 \
    || fail "pip could not install requirements.txt:" "$(cat "$WORK/pip.log")" \
      "  If it could not reach the package index, check the network or the proxy, and try again."
  # Another deploy.sh may have been faster: then the folder is there, and as good.
  "$1" -c 'import os, sys; os.rename(*sys.argv[1:])' "$NEW_SDK" "$2" 2>/dev/null \
    || [[ -d $2 ]] || fail "could not make $2." "  Check its permissions."
}

main() {
  case "${1:-}" in
    "") ;;
    -h | --help) exec sed -n '3,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
    *) say "deploy.sh: unknown argument '$1'; see ./deploy.sh --help" && return 2 ;;
  esac

  local python sdk
  python="$(choose_python)"
  require_lambda_python "$python"
  # From here on the interpreter itself, not a launcher that looks at the environment.
  python="$("$python" -c 'import sys; print(sys.executable)')"

  umask 022
  mkdir -p "$ROOT/build"
  trap 'rm -rf "$WORK" "$NEW_SDK"' EXIT
  WORK="$(mktemp -d "$ROOT/build/deploy.XXXXXX")"
  sdk="$SDK_CACHE/$("$python" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()[:16])' "$ROOT/requirements.txt")"
  if [[ ! -d $sdk ]]; then install_sdk "$python" "$sdk"; fi
  # -Es: no PYTHON... variable and nothing that a user has installed is to show in the zips.
  (cd "$ROOT" && "$python" -EsB -m bundle --sdk "$sdk" --work "$WORK") \
    || fail "no zip was built; the lines above say why."
  say "Next: ./create-infrastructure.sh"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi
