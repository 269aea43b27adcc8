#!/usr/bin/env bash
# Says for each way of cross-compiling, for the packages and for the tests of ARM programs what is missing here.
# `ensure.sh --install` installs what apt, pip and cargo can bring. Targets of rustup and container engines are left to you.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"
install=false
[ "${1:-}" != --install ] || install=true

zig_packages="ziglang==0.17.0 cargo-zigbuild==0.24.0"
cargo_deb=3.8.0
has() { command -v "$1" >/dev/null 2>&1; }
missing_apt=()
# Whether some way of cross-compiling is complete, and whether all the rest is.
cross=false
complete=true
# title, then what is missing
part() {
    local title=$1
    shift
    if [ $# = 0 ]; then
        say "ready    $title"
        [[ $title != cross,* ]] || cross=true
    else
        say "missing  $title"
        printf '           %s\n' "$@"
        [[ $title == cross,* ]] || complete=false
    fi
}
# Packages of Debian that are not installed. They are noted for --install.
debian() {
    local name
    for name; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null | grep -q '^ii' || echo "$name"
    done
}

look() {
    local lacks target
    missing_apt=()
    cross=false
    complete=true

    mapfile -t lacks < <(debian rustc-web cargo-web rust-web-src binutils python3-venv)
    missing_apt+=("${lacks[@]}")
    has cargo-zigbuild && has python-zig || lacks+=("$zig_packages  (pip, in $tools/venv)")
    part "cross, debian: Debian's Rust, standard library built here, zig as linker and C compiler" "${lacks[@]}"

    lacks=()
    for target in $targets; do
        { has rustup && rustup target list --installed 2>/dev/null | grep -qx "$target"; } || lacks+=("rustup target add $target")
    done
    has cargo-zigbuild || lacks+=("$zig_packages  (pip, in $tools/venv)")
    part "cross, rustup: rustup's standard library, zig as linker and C compiler (instead of the first)" "${lacks[@]}"

    lacks=()
    has cross || lacks+=("cargo install cross --git https://github.com/cross-rs/cross")
    { has docker || has podman; } || lacks+=("docker or podman")
    part "cross, containers: cross with the images of cross.toml (instead of the first)" "${lacks[@]}"

    mapfile -t lacks < <(debian dpkg-dev lintian help2man xz-utils qemu-user-static)
    missing_apt+=("${lacks[@]}")
    has cargo-deb || lacks+=("cargo-deb $cargo_deb  (cargo, in $tools/bin)")
    part "packages: .deb of agent and coordinator" "${lacks[@]}"

    mapfile -t lacks < <(debian qemu-user-static gcc-aarch64-linux-gnu g++-aarch64-linux-gnu rustc-web cargo-web libstd-rust-web-dev:arm64)
    missing_apt+=("${lacks[@]}")
    part "test-arm: the agent's tests as ARM programs" "${lacks[@]}"
}

look
if $cross && $complete; then
    exit 0
fi
if ! $install; then
    say "\`just ensure --install\` installs what apt, pip and cargo can bring."
    exit 1
fi
if [ ${#missing_apt[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || fail "apt needs root: sudo apt-get install ${missing_apt[*]}"
    [[ " ${missing_apt[*]} " != *:arm64* ]] || dpkg --add-architecture arm64
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing_apt[@]}" >/dev/null
fi
if ! has cargo-zigbuild || ! has python-zig; then
    python3 -m venv "$tools/venv"
    # shellcheck disable=SC2086 # two packages
    "$tools/venv/bin/pip" install --quiet $zig_packages
fi
has cargo-deb || cargo install --quiet --locked --root "$tools" "cargo-deb@$cargo_deb"
say
look
if ! $cross || ! $complete; then
    fail "something is still missing; what is named above has to be brought by hand"
fi
