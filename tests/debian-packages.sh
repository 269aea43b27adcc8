#!/usr/bin/env bash
# Fetches prometheus-node-exporter as two Debian releases have it, for amd64 and arm64, through this machine's own apt
# mirror, into $ORANGERY_CACHE (default ~/.cache/orangery). What is there already is kept.
set -euo pipefail
cache=${ORANGERY_CACHE:-$HOME/.cache/orangery}/node-exporter
mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources)
for suite in bullseye bookworm; do
    mkdir -p "$cache/$suite"
    for arch in amd64 arm64; do
        compgen -G "$cache/$suite/*_$arch.deb" >/dev/null && continue
        apt=$(mktemp -d)
        mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$apt/sources.list"
        options=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists"
            -o "Dir::Cache=$apt/cache" -o "APT::Architecture=$arch" -o "APT::Architectures=$arch"
            -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
        apt-get "${options[@]}" update
        (cd "$cache/$suite" && apt-get "${options[@]}" download prometheus-node-exporter)
        rm -rf "$apt"
    done
done
ls "$cache"/*/*.deb
