#!/usr/bin/env bash
# Runs the agent's tests with ARM programs under qemu-user: test-arm.sh [units|system|both [OPTION OF cargo test...]].
#
#   units    the tests of wire, trust and agent are ARM programs themselves, and so are the agents that they start: of the
#            glibc flavour, with Debian's Rust and its standard library for arm64
#   system   the tests of whole fleets are native, and every agent in them is the program that boards get
#
# What is left out is said, and why. An agent on ARM under a systemd that has booted is in `just test-board`.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"
target=aarch64-unknown-linux-gnu

left_out=()
# Files with tests, and single tests.
leave_out() { # name why
    left_out+=("$1")
    say "left out: $1: $2"
}
# Options for cargo test: each file with tests in a directory but those.
files() { # directory
    local path name
    for path in "$top/$1"/*.rs "$top/$1"/*/main.rs; do
        name=$(basename "${path%/main.rs}" .rs)
        [ ! -e "$path" ] || [[ " ${left_out[*]} " == *" $name "* ]] || echo "--test=$name"
    done
}

units() {
    [ -d "/usr/lib/rustlib/$target/lib" ] || fail "libstd-rust-web-dev:arm64 is missing; \`just ensure --install\` brings it"
    local no_trace="it follows the agent with strace, and qemu-user has no ptrace(2)"
    local no_vfork="nothing is heard of a program that cannot be started: qemu-user makes a fork(2) of a vfork(2)"
    local slow="it computes for minutes, and the same on every processor"
    leave_out power_cut "$no_trace"
    leave_out syscalls "$no_trace"
    leave_out exhaustive "$slow"
    leave_out systemd_runner "it needs a systemd that has booted"
    leave_out nothing_acknowledged_is_lost_at_any_cut_of_the_power "$slow"
    leave_out this_process_is_found_with_its_group_and_environment "qemu-user has its own /proc/self/stat, without the group"
    leave_out a_command_that_fails_is_quoted "$no_vfork"
    leave_out a_program_that_cannot_be_started_says_why "$no_vfork"

    local cargo=(/usr/bin/cargo test --locked --target "$target")
    export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc CARGO=/usr/bin/cargo
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    # Never with `-L /usr/aarch64-linux-gnu`: it hangs at the first thread.
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static
    # Without debug symbols: half the time to link, and nobody looks at them here.
    export CARGO_PROFILE_DEV_DEBUG=false
    "${cargo[@]}" -p orangery-wire -p orangery-trust "$@"
    # shellcheck disable=SC2046 # a list of words
    "${cargo[@]}" -p orangery-agent --lib --bins $(files agent/tests) "$@" -- $(printf -- '--skip %s ' "${left_out[@]}")
}

# Those that tell most of the agent on its processor: it joins, deploys, goes back, is killed, meets everything wrong, and starts
# without a network.
fleets="deploy first_boot offline bad_input roads delegated kills"

system() {
    "$top/packaging/cross.sh" --only orangery-agent aarch64
    # The agent alone: coordinator and apps are native.
    local programs=$target_dir/arm-programs
    mkdir -p "$programs"
    ln -sf "$out/aarch64-unknown-linux-musl/orangery-agent" "$programs/"
    # shellcheck disable=SC2046,SC2086 # lists of words
    ORANGERY_PROGRAMS=$programs cargo test --locked -p orangery-tests $(printf -- '--test=%s ' $fleets) "$@"
}

cd "$top"
command -v qemu-aarch64-static >/dev/null || fail "qemu-user-static is missing; \`just ensure --install\` brings it"
know_arm_programs
what=${1:-both}
[ $# = 0 ] || shift
case $what in
    units) units "$@" ;;
    system) system "$@" ;;
    both)
        (units "$@")
        (system "$@")
        ;;
    *) fail "usage: test-arm.sh [units|system|both [OPTION OF cargo test...]]" ;;
esac
