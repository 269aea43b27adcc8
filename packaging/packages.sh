#!/usr/bin/env bash
# Makes Debian packages of what cross.sh has built: packages.sh [--only PROGRAM] [TARGET...], for all targets without one.
# `packages.sh --here PROFILE` takes what `cargo build --profile PROFILE` made for this machine instead, packed quickly: for tests.
# ORANGERY_REVISION is the package's revision, 1 without it.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"
command -v cargo-deb >/dev/null || fail "cargo-deb is missing; \`just ensure --install\` brings it"
command -v help2man >/dev/null || fail "help2man is missing; \`just ensure --install\` brings it"
cd "$top"
export CARGO_TARGET_DIR=$target_dir SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(source_date)

# What goes into a package beside the program, made by the program itself.
extras() { # program-file name directory target
    local program=$1 name=$2 into=$3/package
    mkdir -p "$into/.run"
    local runner
    runner=$(runner_of "$4")
    [ -z "$runner" ] || command -v "$runner" >/dev/null || fail "$runner is missing, which runs $program; \`just ensure --install\` brings it"
    # One word to run, by the name that the page is to have.
    printf '#!/bin/sh\nexec %s "%s" "$@"\n' "$runner" "$program" >"$into/.run/$name"
    chmod +x "$into/.run/$name"
    for shell in bash zsh fish; do
        "$into/.run/$name" completions "$shell" >"$into/$name.$shell"
    done
    help2man --no-info --section=1 --name="$(about "$name")" --version-string="$(version)" --manual=Orangery \
        --source="Orangery $(version)" --output="$into/$name.1" "$into/.run/$name"
    gzip -9nf "$into/$name.1"
    rm -r "$into/.run"
    python3 packaging/sbom.py --package "$name" --target "$4" --file "$program" --out "$into/$name.cdx.json"
    {
        printf '%s (%s-%s) unstable; urgency=medium\n\n  * See https://github.com/orangery/orangery/blob/main/CHANGELOG.md\n\n' "$name" "$(version)" "${ORANGERY_REVISION:-1}"
        printf ' -- Orangery <orangery@users.noreply.github.com>  %s\n' "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
    } | gzip -9n >"$into/$name.changelog.gz"
}

about() {
    case $1 in
        orangery-agent) echo "keep this node on proven releases" ;;
        *) echo "over-the-air deployment for fleets of ARM boards" ;;
    esac
}

package() { # name directory target options...
    local name=$1 directory=$2 target=$3
    shift 3
    [ -x "$directory/$name" ] || fail "$directory/$name is not there; build it first (\`just cross\`)"
    extras "$directory/$name" "$name" "$directory" "$target"
    cargo-deb --quiet --no-build --no-dbgsym --locked --deb-revision "${ORANGERY_REVISION:-1}" -p "$name" -o "$out/packages/" "$@"
}

mkdir -p "$out/packages"
if [ "${1:-}" = --here ]; then
    profile=$2
    directory=$target_dir/${profile/#dev/debug}
    host=$(rustc -vV | sed -n 's/^host: //p')
    for name in orangery-agent orangery; do
        package "$name" "$directory" "$host" --profile "$profile" --strip --fast
    done
else
    names="orangery-agent orangery"
    if [ "${1:-}" = --only ]; then
        names=$2
        shift 2
    fi
    # shellcheck disable=SC2086 # a list of words
    [ $# -gt 0 ] || set -- $targets
    for word; do
        target=$(target_named "$word")
        for name in $names; do
            profile=dist-coordinator
            [ "$name" != orangery-agent ] || profile=dist
            package "$name" "$target_dir/$target/$profile" "$target" --target "$target" --profile "$profile" --no-strip
        done
    done
fi
ls -l "$out"/packages/*.deb
