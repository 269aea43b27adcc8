#!/usr/bin/env bash
# Installs Ansible and its linter for the tests into $ORANGERY_CACHE (default ~/.cache/orangery). What is there already is kept.
set -euo pipefail
place=${ORANGERY_CACHE:-$HOME/.cache/orangery}/ansible
if ! "$place/bin/ansible-lint" --version >/dev/null 2>&1; then
    python3 -m venv "$place"
    "$place/bin/pip" install --quiet --disable-pip-version-check 'ansible-core==2.19.*' 'ansible-lint==26.*'
fi
echo "$place/bin"
