#!/usr/bin/env bash
# Builds the agent for aarch64 twice, from two directories and with two homes of Cargo, and compares the bytes.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"
work=$(mktemp -d "${TMPDIR:-/tmp}/orangery-reproducible-XXXXXX")
trap 'rm -rf "$work"' EXIT
SOURCE_DATE_EPOCH=$(source_date)
export SOURCE_DATE_EPOCH
registry=${CARGO_HOME:-$HOME/.cargo}/registry
program=aarch64-unknown-linux-musl/orangery-agent
for place in first the/second/with-a-longer-name; do
    say "== from $place"
    tree=$work/$place
    mkdir -p "$tree/sources" "$tree/cargo"
    # What is committed and what is not, but nothing that was built.
    (cd "$top" && git ls-files -z | tar --null --files-from=- -cf -) | tar -xf - -C "$tree/sources"
    ln -s "$registry" "$tree/cargo/registry"
    env -u CARGO_TARGET_DIR -u ORANGERY_OUT CARGO_HOME="$tree/cargo" "$tree/sources/packaging/cross.sh" --only orangery-agent aarch64
    mv "$tree/sources/target/out/$program" "$tree/agent"
    mv "$tree/sources/target/out/$program.cdx.json" "$tree/sbom"
    rm -rf "$tree/sources"
done
for file in agent sbom; do
    cmp "$work/first/$file" "$work/the/second/with-a-longer-name/$file" ||
        fail "the $file of two builds differs; diffoscope says where"
done
say "both builds have the same bytes: sha256 $(sha256sum <"$work/first/agent" | cut -d' ' -f1)"
