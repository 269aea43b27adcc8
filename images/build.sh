#!/usr/bin/env bash
# Makes a complete image of a board: Debian, its kernel and u-boot, and the agent's package. build.sh BOARD OUT.img [AGENT.deb]
# `build.sh --check` only looks whether what it needs is there.
#
# What comes from Debian alone is made once (minutes) and kept in $ORANGERY_CACHE/images; then an image takes seconds. Needs root, and
# for another processor's packages qemu-user-static. Nobody can log in to it, and it belongs to no fleet yet: `orangery image
# customize` sees to both.
# shellcheck source-path=SCRIPTDIR source=../packaging/common.sh
source "$(dirname "$0")/../packaging/common.sh"
images=$top/images

[ "$(id -u)" = 0 ] || fail "the files of an image belong to root, and only root can make them so"
for tool in mmdebstrap arch-test genimage mke2fs mformat fsck.fat qemu-aarch64-static dtc sfdisk debugfs zstd; do
    command -v $tool >/dev/null ||
        fail "$tool is missing: apt-get install mmdebstrap arch-test genimage e2fsprogs mtools dosfstools qemu-user-static device-tree-compiler fdisk zstd"
done
[ "$*" != --check ] || exit 0

boards() { (cd "$images/boards" && echo ./*.conf | sed 's,\./,,g; s,\.conf,,g'); }
[ $# = 2 ] || [ $# = 3 ] || fail "usage: build.sh BOARD OUT.img [AGENT.deb]; boards: $(boards)"
board=$1 image=$2
package=${3:-$(package_file orangery-agent arm64)}
conf=$images/boards/$board.conf
[ -f "$conf" ] || fail "no board $board; known: $(boards)"
[ -f "$package" ] || fail "$package is not there; \`just image\` makes it first"
[ ! -e "$image" ] || fail "$image is there already; remove it first, or name another"

# What a board's file says, with what holds for most.
suite=bookworm
architecture=arm64
components=main
packages=
layout=gpt
parameters="ro"
root_size=1200M
# What the initramfs has to find the root file system with: modules by name, and those of everything that this device tree names.
modules="ext4"
device_tree=
boot_files=
# shellcheck source=boards/generic-arm64.conf
source "$conf"
[ "$(dpkg-deb --field "$package" Architecture)" = "$architecture" ] || fail "$package is not for $architecture"
for file in $boot_files; do
    [ -f "$file" ] || fail "$file is missing: apt-get install ${boot_package:-u-boot}"
done

base_packages="systemd systemd-sysv systemd-timesyncd systemd-resolved udev dbus kmod netplan.io wpasupplicant iw wireless-regdb
    openssh-server iproute2 iputils-ping ca-certificates python3 cloud-guest-utils e2fsprogs dosfstools zstd less nano
    initramfs-tools u-boot-menu linux-image-arm64"
mirror=${ORANGERY_MIRROR:-http://deb.debian.org/debian}
security=${ORANGERY_SECURITY_MIRROR:-http://deb.debian.org/debian-security}

# Debian's part: the same for the same lists.
# shellcheck disable=SC2086 # a list of words
wanted=$(printf '%s\n' $base_packages $packages | sort)
key=$(printf '%s\n' "$suite" "$architecture" "$components" "$wanted" | sha256sum | cut -c1-12)
base=${ORANGERY_CACHE:-$HOME/.cache/orangery}/images/$suite-$architecture-$key.tar
know_arm_programs
if [ ! -f "$base" ]; then
    say "== Debian $suite for $architecture: made once, takes minutes"
    mkdir -p "$(dirname "$base")"
    sources=$(mktemp)
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    printf 'deb [signed-by=%s] %s %s %s\n' $keyring "$mirror" "$suite" "$components" \
        $keyring "$mirror" "$suite-updates" "$components" $keyring "$security" "$suite-security" "$components" >"$sources"
    # Documentation and translations would be a third of it. The initramfs is the board's own, and made with its image.
    INITRD=No mmdebstrap --quiet --variant=minbase --arch="$architecture" --include="$(echo "$wanted" | paste -sd,)" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        "$suite" "$base.new.tar" "$sources"
    rm "$sources"
    mv "$base.new.tar" "$base"
fi

say "== $board"
work=$(mktemp -d "${TMPDIR:-/tmp}/orangery-image-XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$root"
tar --numeric-owner -xf "$base" -C "$root"
# Directories of the overlay are Debian's own; its files are root's.
(cd "$images/overlay" && find . -type f -print0 | while IFS= read -r -d '' file; do
    install -D -o root -g root -m "$(stat -c %a "$file")" "$file" "$root/$file"
done)
rm -f "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/0000* "$root"/etc/ssh/ssh_host_*
# Netplan's settings are nobody else's to read.
chmod 600 "$root"/etc/netplan/*.yaml
sed -i "s/@COMPONENTS@/$components/" "$root/etc/apt/sources.list.d/debian.sources"
printf 'U_BOOT_PARAMETERS="%s"\n' "$parameters" >>"$root/etc/default/u-boot"
mkdir -p "$root/boot/firmware"
echo "orangery" >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\torangery\n' >"$root/etc/hosts"

# All modules there are would take it many minutes to pack, for another processor's programs do it; these few take one.
make_initramfs() {
    local kernel tree
    kernel=$(basename "$root"/usr/lib/modules/*)
    # The type is told, for here is no root device to ask; without it nothing would check the file system before it is mounted.
    printf 'MODULES=list\nCOMPRESS=zstd\nFSTYPE=ext4\n' >"$root/etc/initramfs-tools/conf.d/orangery"
    {
        # shellcheck disable=SC2086 # a line for each
        printf '%s\n' $modules
        if [ -n "$device_tree" ]; then
            tree=$root/usr/lib/linux-image-$kernel/$device_tree
            [ -f "$tree" ] || fail "Debian's kernel $kernel has no device tree $device_tree"
            named_modules "$tree" "$kernel"
        fi
    } >"$root/etc/initramfs-tools/modules"
    inside update-initramfs -c -k "$kernel" >/dev/null
}

# The modules that a device tree's words of what is compatible lead to, but for those that a card is found without.
named_modules() { # tree kernel
    dtc -q -I dtb -O dts "$1" | sed -n 's/.*compatible = "\(.*\)";/\1/p' | sed 's/\\0\|", "/\n/g' | sort -u |
        sed 's/^/of:NxTxC/' | { xargs chroot "$root" modprobe --set-version "$2" --all --resolve-alias --quiet || true; } | sort -u |
        while read -r module; do
            grep -E "^kernel/(sound|net|drivers/(gpu|media|net|bluetooth|staging|input|iio|hid))/([^:]*/)?${module//[-_]/[-_]}\.ko" \
                -q "$root/usr/lib/modules/$2/modules.dep" || echo "$module"
        done
}

inside() { SYSTEMD_OFFLINE=1 DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }
cp "$package" "$root/agent.deb"
inside dpkg --install --force-confold /agent.deb >/dev/null
rm "$root/agent.deb"
inside systemctl --quiet enable systemd-networkd systemd-resolved systemd-timesyncd ssh orangery-agent orangery-grow-root
# Nothing here is on LVM, whose snapshots the first two are for; each boot waits for them.
inside systemctl --quiet mask e2scrub_reap.service e2scrub_all.timer systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer
make_initramfs
inside u-boot-update >/dev/null 2>&1
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/*.log "$root"/run/* "$root"/var/lib/dbus/machine-id
: >"$root/etc/machine-id"

mkdir "$work/input" "$work/output" "$work/temporary"
for file in $boot_files; do
    cp "$file" "$work/input/"
done
mke2fs -q -t ext4 -L orangery-root -O ^metadata_csum_seed,^orphan_file -d "$root" "$work/input/root.ext4" "$root_size" 2>/dev/null ||
    fail "the root file system needs more than $root_size (root_size in $conf)"
cp "$images/layouts/$layout.cfg" "$work/layout.cfg"
genimage --config "$work/layout.cfg" --rootpath "$work/temporary" --tmppath "$work/tmp" \
    --inputpath "$work/input" --outputpath "$work/output" --loglevel 0
mkdir -p "$(dirname "$image")"
# It gets its name when it is whole.
trap 'rm -rf "$work" "$image.part"' EXIT
cp --sparse=always "$work/output/board.img" "$image.part"
"$images/check.sh" "$board" "$image.part"
mv "$image.part" "$image"
(cd "$(dirname "$image")" && sha256sum "$(basename "$image")" >"$(basename "$image").sha256")
say "$image: $(stat -c %s "$image") bytes, $(du -k "$image" | cut -f1) KiB of them not empty"
