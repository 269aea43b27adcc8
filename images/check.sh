#!/usr/bin/env bash
# Looks at a finished image as its board's boot will: check.sh BOARD IMAGE. Needs no root, changes nothing, names the first thing
# that is wrong.
# shellcheck source-path=SCRIPTDIR source=../packaging/common.sh
source "$(dirname "$0")/../packaging/common.sh"
[ $# = 2 ] || fail "usage: check.sh BOARD IMAGE"
board=$1 image=$2
conf=$top/images/boards/$board.conf
[ -f "$conf" ] || fail "no board $board"
[ -f "$image" ] || fail "$image is not there"
layout=gpt
device_tree=
boot_files=
# shellcheck source=boards/generic-arm64.conf
source "$conf"
work=$(mktemp -d "${TMPDIR:-/tmp}/orangery-check-XXXXXX")
trap 'rm -rf "$work"' EXIT
wrong() { fail "$image: $*"; }

# The table: one that the boot loader does not lie upon, and a root partition that u-boot looks for it in.
sfdisk --dump "$image" >"$work/table" 2>/dev/null || wrong "no partition table"
case $layout in
    sunxi64) kind=dos ;;
    *) kind=gpt ;;
esac
grep -qx "label: $kind" "$work/table" || wrong "its partition table is not of the kind $kind"
[ "$(grep -c 'start=' "$work/table")" = 2 ] || wrong "it has not two partitions"
number_of() { sed -n "s/.*$1= *\([0-9]*\).*/\1/p" "$work/table" | sed -n "$2p"; }
boot_start=$(number_of start 1) boot_size=$(number_of size 1)
root_start=$(number_of start 2) root_size=$(number_of size 2)
[ "$boot_start" = 8192 ] || wrong "its boot partition does not begin at 4 MiB"
[ $((boot_start + boot_size)) -le "$root_start" ] || wrong "its partitions lie upon each other"
[ $(((root_start + root_size) * 512)) -le "$(stat -c %s "$image")" ] || wrong "its root partition goes on behind its end"
grep 'start=' "$work/table" | sed -n 2p | grep -E 'bootable|LegacyBIOSBootable' >/dev/null || wrong "its root partition has no boot flag"

# The boot loader: the SPL where the processor reads it, and u-boot where that does.
lies_at() { # file offset
    cmp -s -n "$(stat -c %s "$1")" -i "0:$2" "$1" "$image" || wrong "$1 does not lie at byte $2"
    [ $(($2 + $(stat -c %s "$1"))) -le $((boot_start * 512)) ] || wrong "$1 goes on into the boot partition"
}
if [ "$layout" = sunxi64 ]; then
    # shellcheck disable=SC2086 # two words
    set -- $boot_files
    # What the processor's own boot program looks for behind the first jump.
    [ "$(dd if="$image" bs=1 skip=8196 count=8 status=none)" = eGON.BT0 ] || wrong "no boot loader that an Allwinner starts"
    lies_at "$1" 8192
    lies_at "$2" 40960
fi

# The file systems.
dd if="$image" of="$work/boot" bs=512 skip="$boot_start" count="$boot_size" conv=sparse status=none
fsck.fat -n "$work/boot" >"$work/said" 2>&1 || wrong "its boot partition is not clean: $(cat "$work/said")"
root="$image?offset=$((root_start * 512))"
e2fsck -f -n "$root" >"$work/said" 2>&1 || wrong "its root file system is not clean: $(cat "$work/said")"
# Each output is read to its end: a pipe that breaks would count as a failure.
ask() { debugfs -R "$1" "$root" 2>/dev/null; }
read_out() { ask "cat $1"; }
has() { ask "stat $1" | grep '^Inode:' >/dev/null || wrong "it lacks $1"; }

# What u-boot reads there, and what that names.
read_out /boot/extlinux/extlinux.conf >"$work/extlinux"
said() { sed -n "s/^[[:space:]]*$1[[:space:]]\+//p" "$work/extlinux" | head -1; }
for word in linux initrd; do
    [ -n "$(said $word)" ] || wrong "its extlinux.conf names no $word"
    has "$(said $word)"
done
said append | grep -w 'root=LABEL=orangery-root' >/dev/null || wrong "its extlinux.conf does not find the root file system by its label"
ask stats | grep 'volume name: *orangery-root' >/dev/null || wrong "its root file system has not that label"
has "$(said fdtdir | sed 's,/$,,')/$device_tree"
kernel=$(basename "$(said linux)" | sed 's/^vmlinuz-//')

# What the kernel finds the root file system with.
ask "dump $(said initrd) $work/initrd"
# Names are in the archive as they are.
zstd -dcq "$work/initrd" | grep -aoE '[A-Za-z0-9/._-]+(\.ko|/fsck\.ext4)' >"$work/packed"
grep -q /fsck.ext4 "$work/packed" || wrong "its initramfs checks no file system"
read_out "/usr/lib/modules/$kernel/modules.dep" >"$work/modules"
read_out /etc/initramfs-tools/modules | while read -r module; do
    file=${module//[-_]/[-_]}\.ko
    grep -qE "^[^:]*/$file" "$work/modules" || continue # built in
    grep -qE "/$file" "$work/packed" || wrong "its initramfs lacks the module $module"
done
if [ "$layout" = sunxi64 ]; then
    grep -q /sunxi-mmc.ko "$work/packed" || wrong "its initramfs has nothing that reads the card"
fi

# Ours, and that it is nobody's yet.
ask "dump /usr/bin/orangery-agent $work/agent"
[ "$(od -An -tu2 -j18 -N2 "$work/agent" | tr -d ' ')" = 183 ] || wrong "its agent is no program for 64-bit ARM"
wants=/etc/systemd/system/multi-user.target.wants
has $wants/orangery-agent.service
has $wants/orangery-grow-root.service
has /etc/orangery-image/grow-root
has "$(ask "stat $wants/orangery-agent.service" | sed -n 's/.*Fast link dest: "\(.*\)"/\1/p')"
[ -z "$(read_out /etc/machine-id)" ] || wrong "it has a machine-id, which all boards would share"
ask 'ls /etc/ssh' >"$work/said"
! grep -q ssh_host "$work/said" || wrong "it has SSH host keys, which all boards would share"
ask 'ls /var/lib/orangery' >"$work/said"
! grep -qw identity "$work/said" || wrong "it has a node's identity, which all boards would share"
read_out /etc/shadow | grep -E '^root:[*!]' >/dev/null || wrong "root can log in with a password"
say "$image: looked at, and right"
