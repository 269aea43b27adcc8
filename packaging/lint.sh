#!/usr/bin/env bash
# What can be checked of units and packages without installing them.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

# How far a unit may be open, in tenths (docs/install.md says why).
exposure() { # unit limit
    systemd-analyze security --offline=true --threshold="$2" "$1" | tail -1 ||
        fail "$1 is open further than $2 tenths; \`systemd-analyze security --offline=true $1\` says by what"
}
cd "$top"
exposure agent/systemd/orangery-agent.service 40
exposure coordinator/systemd/orangery.service 20
if command -v lintian >/dev/null && compgen -G "$out/packages/*.deb" >/dev/null; then
    lintian --fail-on error,warning "$out"/packages/*.deb
fi
