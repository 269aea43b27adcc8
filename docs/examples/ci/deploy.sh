#!/usr/bin/env bash
# From a directory with ARM programs to a fleet that runs them, or that runs what it ran before.
#
#   deploy.sh publish    build the release, sign it, push it
#   deploy.sh staging    deploy it to $STAGING, and watch it there
#   deploy.sh rest       deploy it to $REST; if a node refuses it, take it back everywhere
#   deploy.sh all        one after the other
#
# Set APP, VERSION, MANIFEST and FILES (the directory with what runs on linux/arm64). `orangery` and python3 are in PATH;
# ORANGERY_DIR (or ~/.config/orangery) has client.toml, operator.token and the key of this app alone: README.md says how.
# Exit codes: 0 done, 1 refused and taken back, 2 the settings are not good.
set -euo pipefail

for name in APP VERSION MANIFEST FILES; do
    [ -n "${!name:-}" ] || { echo "deploy.sh: $name is not set" >&2; exit 2; }
done
PLATFORM=${PLATFORM:-linux/arm64}
STAGING=${STAGING:-stage=staging}
REST=${REST:-all}
# How long the nodes of a step may take, and how long staging is watched after that.
TIMEOUT=${TIMEOUT:-15m}
WATCH_SECS=${WATCH_SECS:-120}
# What every node ran before, kept from the first step to the last.
BEFORE=${BEFORE:-before.json}
release=$APP@$VERSION

step() { printf '== %s\n' "$*"; }

publish() {
    local file=$APP-$VERSION.orangery
    step "build, sign and push $release"
    orangery release build --app "$APP" --version "$VERSION" --platform "$PLATFORM=$FILES" --manifest "$MANIFEST" --out "$file"
    orangery release sign "$file"
    orangery release verify "$file"
    orangery release push "$file"
}

# One line for each node that is not revoked: its name, the current version of the app or -, and whether it is well:
# "yes", "no", or "unknown".
nodes() { # a file as `orangery status --json` writes it
    APP=$APP python3 -c '
import json, os, sys
for node in json.load(open(sys.argv[1]))["nodes"]:
    apps = (node.get("reported") or {}).get("apps", [])
    app = next((app for app in apps if app["app"] == os.environ["APP"]), {})
    current = (app.get("current") or {}).get("version", "-")
    well = {True: "yes", False: "no"}.get(app.get("healthy"), "unknown")
    if not node.get("revoked"):
        print(node["node"], current, well)' "$1"
}

# Everything that runs this version goes back to what it ran before the first step.
back() {
    local node version well old
    orangery status --json >now.json
    while read -r node version well; do
        [ "$version" = "$VERSION" ] || continue
        old=$(nodes "$BEFORE" | sed -n "s/^$node \([^ ]*\) .*/\1/p")
        if [ -z "$old" ] || [ "$old" = - ] || [ "$old" = "$VERSION" ]; then
            echo "$node ran no other version before and stays as it is" >&2
            continue
        fi
        step "$node goes back to $APP@$old"
        orangery deploy "$APP@$old" --to "$node" --yes --timeout "$TIMEOUT" || true
    done < <(nodes now.json)
    exit 1
}

staging() {
    orangery status --json >"$BEFORE"
    step "deploy $release to $STAGING"
    # Here 2, a node that is offline or not there yet, is no success either.
    orangery deploy "$release" --to "$STAGING" --yes --timeout "$TIMEOUT" || back
    step "watch it for $WATCH_SECS s"
    local end=$((SECONDS + WATCH_SECS)) node version well
    while :; do
        orangery status --json >now.json
        while read -r node version well; do
            [ "$version $well" != "$VERSION no" ] || { echo "$node is not well any more" >&2; back; }
        done < <(nodes now.json)
        [ $SECONDS -lt $end ] || break
        sleep 5
    done
}

rest() {
    local code=0
    [ -e "$BEFORE" ] || { echo "deploy.sh: $BEFORE is missing: run staging first" >&2; exit 2; }
    step "deploy $release to $REST"
    orangery deploy "$release" --to "$REST" --yes --timeout "$TIMEOUT" || code=$?
    case $code in
        0) ;;
        # Offline nodes take it when they are back, and try it like every other.
        2) echo "some nodes are offline or slow; \`orangery status\` shows them" ;;
        *) back ;;
    esac
}

case ${1:-} in
    publish | staging | rest) "$1" ;;
    all)
        publish
        staging
        rest
        ;;
    *)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0" >&2
        exit 2
        ;;
esac
