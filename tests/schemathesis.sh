#!/usr/bin/env bash
# Installs schemathesis, as tests/schemathesis/ pins it, into $ORANGERY_CACHE (default ~/.cache/orangery). It needs python3 with venv.
# What is there already is kept.
set -euo pipefail
here=$(cd "$(dirname "$0")/schemathesis" && pwd)
cache=${ORANGERY_CACHE:-$HOME/.cache/orangery}/schemathesis
pins=$(sha256sum <"$here/requirements.txt" | cut -c1-64)
if [ "$(cat "$cache/pins" 2>/dev/null || true)" != "$pins" ]; then
    rm -rf "$cache"
    mkdir -p "$cache"
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/requirements.txt"
    echo "$pins" >"$cache/pins"
fi
echo "$cache"
