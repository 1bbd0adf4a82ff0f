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
ZIPS=(valro-api-lambda.zip valro-worker-lambda.zip)
# Folders to remove at the end, whatever happens.
WORK=""
NEW_SDK=""

usage() {
  sed -n '3,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

say() {
  printf '%s\n' "$*" >&2
}

# fail SENTENCE... says what is wrong and what to do, and ends the script.
fail() {
  printf 'deploy.sh: %s\n' "$1" >&2
  shift
  if (($# > 0)); then printf '  %s\n' "$@" >&2; fi
  exit 1
}

cleanup() {
  if [[ -n $WORK ]]; then rm -rf "$WORK"; fi
  if [[ -n $NEW_SDK ]]; then rm -rf "$NEW_SDK"; fi
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
  local python="$1" version
  if ! version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)"; then
    fail "there is no '$python' that runs." \
      "Install Python 3.11, or name another one: PYTHON=/path/to/python3 ./deploy.sh"
  fi
  if [[ " $LAMBDA_PYTHONS " != *" $version "* ]]; then
    fail "'$python' is Python $version, for which Lambda has no runtime that would do." \
      "The functions can run on Python ${LAMBDA_PYTHONS// /, }." \
      "Name one of these: PYTHON=/path/to/python3.11 ./deploy.sh"
  fi
  say "Building with '$python', for Lambda's runtime python$version."
}

# python_with_pip PYTHON prints a Python that has pip: this one, or else a virtual environment of it.
python_with_pip() {
  local python="$1"
  if "$python" -m pip --version >/dev/null 2>&1; then
    printf '%s\n' "$python"
  elif "$python" -m venv "$WORK/venv" >/dev/null 2>&1; then
    printf '%s\n' "$WORK/venv/bin/python"
  else
    fail "'$python' has no pip." \
      "On Debian and Ubuntu: apt install python3-pip. Elsewhere: $python -m ensurepip"
  fi
}

# install_sdk PYTHON FOLDER installs what requirements.txt pins. The folder appears only when complete.
install_sdk() {
  local python="$1" folder="$2" installer
  say "Installing what requirements.txt pins (once; about 15 MB to fetch) ..."
  installer="$(python_with_pip "$python")"
  mkdir -p "$SDK_CACHE"
  NEW_SDK="$(mktemp -d "$SDK_CACHE/new.XXXXXX")"
  # A user's own pip settings stay, for the index that they name, except those that would
  # contradict --target.
  if ! PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 "$installer" -m pip install \
    --quiet --no-input --disable-pip-version-check \
    --require-hashes --no-deps --only-binary :all: --no-compile \
    --target "$NEW_SDK" --requirement "$ROOT/requirements.txt" >"$WORK/pip.log" 2>&1; then
    cat "$WORK/pip.log" >&2
    fail "pip could not install requirements.txt; its own words are above." \
      "If it could not reach the package index, check the network or the proxy, and try again."
  fi
  # Another deploy.sh may have been faster: then the folder is there, and as good.
  "$python" -c 'import os, sys; os.rename(*sys.argv[1:])' "$NEW_SDK" "$folder" 2>/dev/null \
    || [[ -d $folder ]] || fail "could not make $folder." "Check its permissions."
}

# report PYTHON prints each zip's name, size and checksum.
report() {
  local python="$1" zip
  for zip in "${ZIPS[@]}"; do
    "$python" -c 'import hashlib, pathlib, sys
data = pathlib.Path(sys.argv[1], sys.argv[2]).read_bytes()
print(sys.argv[2], len(data), "bytes, sha256", hashlib.sha256(data).hexdigest())' "$ROOT" "$zip"
  done
}

main() {
  local python sdk
  case "${1:-}" in
    "") ;;
    -h | --help)
      usage
      return 0
      ;;
    *)
      say "deploy.sh: unknown argument '$1'."
      usage >&2
      return 2
      ;;
  esac

  python="$(choose_python)"
  require_lambda_python "$python"
  # From here on the interpreter itself, not a launcher that looks at the environment.
  python="$("$python" -c 'import sys; print(sys.executable)')"

  umask 022
  mkdir -p "$ROOT/build"
  trap cleanup EXIT
  WORK="$(mktemp -d "$ROOT/build/deploy.XXXXXX")"

  sdk="$SDK_CACHE/$("$python" -c 'import hashlib, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest()[:16])' "$ROOT/requirements.txt")"
  if [[ ! -d $sdk ]]; then install_sdk "$python" "$sdk"; fi
  # -I: no PYTHON... variable and nothing that a user has installed is to show in the zips.
  if ! "$python" -IB "$ROOT/build_zips.py" build \
    --sources "$ROOT" --sdk "$sdk" --work "$WORK" --output "$ROOT"; then
    fail "no zip was built; the lines above say why."
  fi
  report "$python"
  say "Next: ./create-infrastructure.sh"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  main "$@"
fi
