#!/usr/bin/env bash
# Runs the tests of wire, trust and agent as ARM programs under qemu: the glibc flavour, with Debian's Rust and its standard
# library for arm64. What needs a booted systemd is not among them (`just test-nspawn`, natively).
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"
target=aarch64-unknown-linux-gnu
[ -d "/usr/lib/rustlib/$target/lib" ] || fail "libstd-rust-web-dev:arm64 is missing; \`just ensure --install\` brings it"
command -v qemu-aarch64-static >/dev/null || fail "qemu-user-static is missing; \`just ensure --install\` brings it"

know_arm_programs

cd "$top"
export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc CARGO=/usr/bin/cargo
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# Never with `-L /usr/aarch64-linux-gnu`: it hangs at the first thread.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64-static
# Without debug symbols: half the time to link, and nobody looks at them here.
export CARGO_PROFILE_DEV_DEBUG=false
exec /usr/bin/cargo test --locked --target $target -p orangery-wire -p orangery-trust -p orangery-agent "$@"
