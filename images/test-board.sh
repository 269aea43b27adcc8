#!/usr/bin/env bash
# Builds the agent for ARM, an image with it, and tries that image on an emulated board. Words are passed to the tests.
# shellcheck source-path=SCRIPTDIR source=../packaging/common.sh
source "$(dirname "$0")/../packaging/common.sh"
for file in /usr/bin/qemu-system-aarch64 /usr/lib/u-boot/qemu_arm64/u-boot.bin; do
    [ -e "$file" ] || fail "$file is missing: apt-get install qemu-system-arm u-boot-qemu"
done
"$top/images/build.sh" --check
"$top/packaging/ensure.sh" || fail "something to build the agent with is missing; \`just ensure --install\` brings it"
"$top/packaging/cross.sh" --only orangery-agent aarch64
"$top/packaging/packages.sh" --only orangery-agent aarch64
image=$out/images/generic-arm64.img
rm -f "$image"
"$top/images/build.sh" generic-arm64 "$image"
"$top/tests/debian-packages.sh" >/dev/null
cd "$top"
ORANGERY_BOARD_IMAGE=$image cargo test -p orangery-tests --test emulated_board -- --ignored --nocapture --test-threads 1 "$@"
