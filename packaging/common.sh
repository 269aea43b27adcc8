# Sourced by the scripts beside this one, never run: names that all of them use.
# shellcheck shell=bash
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# A test's own toolchain or target directory must not lead these builds astray.
unset CARGO_ENCODED_RUSTFLAGS
target_dir=${CARGO_TARGET_DIR:-$top/target}
# shellcheck disable=SC2034 # for the others
# What is handed out: one directory for each target, and the packages.
out=${ORANGERY_OUT:-$target_dir/out}

say() { printf '%s\n' "$*"; }
fail() {
    printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2
    exit 1
}

# All targets, and what Debian calls their architectures.
targets="aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf x86_64-unknown-linux-musl"
debian_name() {
    case $1 in
        aarch64-*) echo arm64 ;;
        armv7-*) echo armhf ;;
        x86_64-*) echo amd64 ;;
        *) fail "no Debian architecture is known for $1; known targets: $targets" ;;
    esac
}

# A target by its triple or by a short name.
target_named() {
    case $1 in
        aarch64 | arm64 | aarch64-unknown-linux-musl) echo aarch64-unknown-linux-musl ;;
        armv7 | armhf | armv7-unknown-linux-musleabihf) echo armv7-unknown-linux-musleabihf ;;
        x86_64 | amd64 | x86_64-unknown-linux-musl) echo x86_64-unknown-linux-musl ;;
        *) fail "unknown target $1; known: aarch64, armv7, x86_64 and $targets" ;;
    esac
}

# What runs a program of a target: nothing, if this machine can, or qemu.
runner_of() {
    local processor=${1%%-*}
    case $processor:$(uname -m) in
        "$(uname -m):$processor" | armv7:armv7l) ;;
        armv7:*) echo qemu-arm-static ;;
        *) echo "qemu-$processor-static" ;;
    esac
}

# The time of the last commit, so that a build of the same sources has the same bytes whenever it is made.
source_date() {
    if [ -n "${SOURCE_DATE_EPOCH:-}" ]; then
        echo "$SOURCE_DATE_EPOCH"
    else
        git -C "$top" log -1 --format=%ct 2>/dev/null || fail "not in a git checkout: set SOURCE_DATE_EPOCH to the sources' time"
    fi
}

version() { sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -1; }

# Where packages.sh puts a package: name, Debian's architecture.
package_file() { echo "$out/packages/$1_$(version)-${ORANGERY_REVISION:-1}_$2.deb"; }

# zig and cargo-zigbuild, where `ensure.sh --install` puts them.
tools=${ORANGERY_TOOLS:-$HOME/.cache/orangery/tools}
export PATH="$tools/venv/bin:$tools/bin:$PATH"

# Tests and packages start programs, and those are ARM programs, too: the kernel has to know who runs them.
know_arm_programs() {
    local binfmt=/proc/sys/fs/binfmt_misc
    [ ! -e $binfmt/qemu-aarch64 ] || return 0
    [ "$(id -u)" = 0 ] || fail "the kernel does not know ARM programs yet, and only root can tell it (binfmt_misc)"
    [ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
    cat /usr/lib/binfmt.d/qemu-aarch64.conf >$binfmt/register
}
