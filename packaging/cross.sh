#!/usr/bin/env bash
# Builds static programs for boards and servers: cross.sh [--only PROGRAM] [TARGET...], all three targets without one.
# The way is found by itself, or named by ORANGERY_CROSS: `debian` (Debian's Rust and zig), `rustup` (a target of rustup, and
# zig) or `cross` (containers). `ensure.sh` says what each of them needs.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"

# What an agent may take, in bytes, for whichever processor.
agent_bytes_max=4000000

programs="orangery-agent orangery"
if [ "${1:-}" = --only ]; then
    programs=$2
    shift 2
fi
wanted=()
for name in "${@:-}"; do
    # shellcheck disable=SC2206 # a list of words
    [ -n "$name" ] && wanted+=("$(target_named "$name")") || wanted=($targets)
done

has() { command -v "$1" >/dev/null 2>&1; }
way() {
    if [ -n "${ORANGERY_CROSS:-}" ]; then
        echo "$ORANGERY_CROSS"
    elif has cargo-zigbuild && has rustup && rustup target list --installed 2>/dev/null | grep -qx "$1"; then
        echo rustup
    elif has cargo-zigbuild && [ -x /usr/bin/rustc ] && [ -d /usr/lib/rustlib/src/rust/library ]; then
        echo debian
    elif has cross && { has docker || has podman; }; then
        echo cross
    else
        fail "nothing here builds $1; \`just ensure\` says what is missing for each way"
    fi
}

# The size profile is for flash and for the road there; the coordinator has room, and its panics end one request only.
profile() { [ "$1" = orangery-agent ] && echo dist || echo dist-coordinator; }

# Nothing of this machine is in what is built: no path, no time.
flags() {
    local cargo_home=${CARGO_HOME:-$HOME/.cargo}
    printf '%s' "--remap-path-prefix=$top=/orangery --remap-path-prefix=$cargo_home=/cargo" \
        " --remap-path-prefix=$target_dir=/target"
}

build() { # way target program
    local std=()
    local common=(--locked -p "$3" --bin "$3" --profile "$(profile "$3")" --target "$2")
    local map="-ffile-prefix-map=$top=/orangery -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo -ffile-prefix-map=$target_dir=/target"
    export SOURCE_DATE_EPOCH CARGO_TARGET_DIR=$target_dir RUSTFLAGS='' CFLAGS=''
    SOURCE_DATE_EPOCH=$(source_date)
    # In a container the sources are elsewhere, so there is nothing to map.
    if [ "$1" != cross ]; then
        RUSTFLAGS=$(flags)
        CFLAGS=$map
    fi
    if [ "$3" = orangery-agent ]; then
        # Its panics end it, so nobody ever walks its stack: a sixth of the program less.
        RUSTFLAGS+=" -C force-unwind-tables=no"
        CFLAGS+=" -fno-asynchronous-unwind-tables -fno-unwind-tables"
        # Nor names of functions for a backtrace, which a stripped program has not.
        std=(-Zbuild-std-features=optimize_for_size)
        # What is the same in many functions is written once. For ARM the compiler does so by itself.
        [[ $2 != x86_64-* ]] || RUSTFLAGS+=" -C llvm-args=-enable-machine-outliner=always"
    fi
    case $1 in
        debian)
            # The flag: zig has the start files, and Debian's package of the standard library for musl is not there.
            RUSTFLAGS+=" -C link-self-contained=no"
            RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo RUSTC_BOOTSTRAP=1 \
                cargo-zigbuild zigbuild -Zbuild-std=std,panic_abort "${std[@]}" "${common[@]}"
            ;;
        rustup) cargo-zigbuild zigbuild "${common[@]}" ;;
        cross) CROSS_CONFIG=$top/cross.toml cross build "${common[@]}" ;;
        *) fail "unknown way $1; ORANGERY_CROSS is debian, rustup or cross" ;;
    esac
}

# A program that needs nothing of the machine that it comes to: linked statically, and it starts.
look_at() { # target program-file
    local headers runner said
    headers=$(readelf --program-headers --dynamic --wide "$2") || fail "readelf (binutils) cannot say what $2 needs"
    [[ $headers != *INTERP* ]] || fail "$2 is not static: it names a program interpreter"
    [[ $headers != *"(NEEDED)"* ]] || fail "$2 is not static: it needs libraries"
    runner=$(runner_of "$1")
    if [ -n "$runner" ] && ! has "$runner"; then
        echo "not run: there is no $runner here (qemu-user-static)"
        return
    fi
    # shellcheck disable=SC2086 # no word or one
    said=$($runner "$2" --version) || fail "$2 does not run"
    [[ $said == "$(basename "$2") $(version)"* ]] || fail "$2 says of itself: $said"
    echo "static, runs"
}

cd "$top"
gate=0
table=
for target in "${wanted[@]}"; do
    how=$(way "$target")
    mkdir -p "$out/$target"
    for program in $programs; do
        say "== $program for $target ($how)"
        (build "$how" "$target" "$program")
        install -m 755 "$target_dir/$target/$(profile "$program")/$program" "$out/$target/$program"
        python3 "$top/packaging/sbom.py" --package "$program" --target "$target" --file "$out/$target/$program" \
            --out "$out/$target/$program.cdx.json"
        bytes=$(stat -c %s "$out/$target/$program")
        verdict=$(look_at "$target" "$out/$target/$program")
        if [ "$program" = orangery-agent ] && [ "$bytes" -gt "$agent_bytes_max" ]; then
            verdict+=", more than the $agent_bytes_max bytes that it may take"
            gate=1
        fi
        table+=$(printf '%-32s %-15s %10s bytes, %s' "$target" "$program" "$bytes" "$verdict")$'\n'
    done
done
printf '\n%s' "$table"
say "in $out"
exit $gate
