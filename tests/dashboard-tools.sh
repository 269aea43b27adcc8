#!/usr/bin/env bash
# Installs what drives a browser through the dashboard (Playwright's core, axe, a reader of QR codes), as tests/dashboard/ pins it by
# checksums, into $ORANGERY_CACHE (default ~/.cache/orangery). It needs node from 18 on, and npm; the browser itself is Debian's.
# What is there already is kept.
set -euo pipefail
here=$(cd "$(dirname "$0")/dashboard" && pwd)
place=${ORANGERY_CACHE:-$HOME/.cache/orangery}/dashboard
pins=$(cat "$here/package.json" "$here/package-lock.json" | sha256sum | cut -c1-64)
if [ "$(cat "$place/pins" 2>/dev/null || true)" != "$pins" ]; then
    rm -rf "$place"
    mkdir -p "$place"
    cp "$here/package.json" "$here/package-lock.json" "$place/"
    npm ci --prefix "$place" --omit=optional --ignore-scripts --no-audit --no-fund --silent
    echo "$pins" >"$place/pins"
fi
echo "$place"
