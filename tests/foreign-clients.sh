#!/usr/bin/env bash
# Installs the TUF clients of other people, python-tuf and tuf-js, as tests/foreign/ pins them, into $ORANGERY_CACHE (default
# ~/.cache/orangery). They need python3 with venv, node from 18 on, and npm. What is there already is kept.
set -euo pipefail
here=$(cd "$(dirname "$0")/foreign" && pwd)
cache=${ORANGERY_CACHE:-$HOME/.cache/orangery}/foreign
pins=$(cat "$here/requirements.txt" "$here/package.json" "$here/package-lock.json" | sha256sum | cut -c1-64)
if [ "$(cat "$cache/pins" 2>/dev/null || true)" != "$pins" ]; then
    rm -rf "$cache"
    mkdir -p "$cache/npm"
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$here/requirements.txt"
    cp "$here/package.json" "$here/package-lock.json" "$cache/npm/"
    npm ci --prefix "$cache/npm" --omit=optional --ignore-scripts --no-audit --no-fund --silent
    echo "$pins" >"$cache/pins"
fi
echo "$cache"
