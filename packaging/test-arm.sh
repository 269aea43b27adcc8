#!/usr/bin/env bash
# Runs the tests of wire, trust and agent as ARM programs under qemu-user, and the agents that they start, too: the glibc flavour, with
# Debian's Rust and its standard library for arm64. Options go to cargo test.
# What is left out is said, and why. An agent on ARM under a systemd that has booted is in `just test-board`.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"
target=aarch64-unknown-linux-gnu

files_left_out=()
tests_left_out=()
leave_out_file() { # name why
    files_left_out+=("$1")
    say "left out: all of $1: $2"
}
leave_out_test() { # name why
    tests_left_out+=("$1")
    say "left out: $1: $2"
}
# Options for cargo test: each file with tests in a directory but those.
files() { # directory
    local path name
    for path in "$top/$1"/*.rs "$top/$1"/*/main.rs; do
        name=$(basename "${path%/main.rs}" .rs)
        [ ! -e "$path" ] || [[ " ${files_left_out[*]} " == *" $name "* ]] || echo "--test=$name"
    done
}

cd "$top"
command -v qemu-aarch64-static >/dev/null || fail "qemu-user-static is missing; \`just ensure --install\` brings it"
[ -d "/usr/lib/rustlib/$target/lib" ] || fail "libstd-rust-web-dev:arm64 is missing; \`just ensure --install\` brings it"
know_arm_programs

no_trace="it follows the agent with strace, and qemu-user has no ptrace(2)"
no_vfork="nothing is heard of a program that cannot be started: qemu-user makes a fork(2) of a vfork(2)"
slow="it computes for minutes, and the same on every processor"
leave_out_file power_cut "$no_trace"
leave_out_file syscalls "$no_trace"
leave_out_file exhaustive "$slow"
leave_out_file systemd_runner "it needs a systemd that has booted"
leave_out_test nothing_acknowledged_is_lost_at_any_cut_of_the_power "$slow"
leave_out_test this_process_is_found_with_its_group_and_environment "qemu-user has its own /proc/self/stat, without the group"
leave_out_test a_command_that_fails_is_quoted "$no_vfork"
leave_out_test a_program_that_cannot_be_started_says_why "$no_vfork"

export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc CARGO=/usr/bin/cargo
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# Never with `-L /usr/aarch64-linux-gnu`: it hangs at the first thread.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static
# Without debug symbols: half the time to link, and nobody looks at them here.
export CARGO_PROFILE_DEV_DEBUG=false
# All at once: for some of them alone, their dependencies would be built in another way, and again.
# shellcheck disable=SC2046 # lists of words
exec /usr/bin/cargo test --locked --target "$target" -p orangery-wire -p orangery-trust -p orangery-agent \
    --lib --bins $(files trust/tests) $(files agent/tests) "$@" -- $(printf -- '--skip %s ' "${tests_left_out[@]}")
