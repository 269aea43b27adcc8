#!/usr/bin/env bash
# Makes a complete image of a board: Debian, its kernel and u-boot, and the agent's package. build.sh BOARD OUT.img [AGENT.deb]
#
# What comes from Debian alone is made once (minutes) and kept in $ORANGERY_CACHE/images; then an image takes seconds. Needs root, and
# for another processor's packages qemu-user-static. Nobody can log in to it, and it belongs to no fleet yet: `orangery image
# customize` sees to both.
# shellcheck source-path=SCRIPTDIR source=../packaging/common.sh
source "$(dirname "$0")/../packaging/common.sh"
images=$top/images

boards() { (cd "$images/boards" && echo ./*.conf | sed 's,\./,,g; s,\.conf,,g'); }
[ $# = 2 ] || [ $# = 3 ] || fail "usage: build.sh BOARD OUT.img [AGENT.deb]; boards: $(boards)"
board=$1 image=$2
package=${3:-$(package_file orangery-agent arm64)}
conf=$images/boards/$board.conf
[ -f "$conf" ] || fail "no board $board; known: $(boards)"
[ -f "$package" ] || fail "$package is not there; \`just image\` makes it first"
[ ! -e "$image" ] || fail "$image is there already; remove it first, or name another"
[ "$(id -u)" = 0 ] || fail "the files of an image belong to root, and only root can make them so"
for tool in mmdebstrap genimage mke2fs mformat qemu-aarch64-static; do
    command -v $tool >/dev/null || fail "$tool is missing: apt-get install mmdebstrap genimage e2fsprogs mtools dosfstools qemu-user-static"
done

# What a board's file says, with what holds for most.
suite=bookworm
architecture=arm64
components=main
packages=
layout=gpt
parameters="ro"
root_size=1200M
# What finds the root file system; without a list the initramfs has everything, and takes long to make for another processor.
modules=
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
key=$(printf '%s\n' "$suite" "$architecture" "$components" "$wanted" "$modules" | sha256sum | cut -c1-12)
base=${ORANGERY_CACHE:-$HOME/.cache/orangery}/images/$suite-$architecture-$key.tar
know_arm_programs
if [ ! -f "$base" ]; then
    say "== Debian $suite for $architecture: made once, takes minutes"
    mkdir -p "$(dirname "$base")"
    sources=$(mktemp)
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    printf 'deb [signed-by=%s] %s %s %s\n' $keyring "$mirror" "$suite" "$components" \
        $keyring "$mirror" "$suite-updates" "$components" $keyring "$security" "$suite-security" "$components" >"$sources"
    early=$(mktemp -d)
    if [ -n "$modules" ]; then kind=list; else kind=most; fi
    printf 'MODULES=%s\nCOMPRESS=zstd\n' "$kind" >"$early/conf"
    # shellcheck disable=SC2086 # a line for each
    printf '%s\n' $modules >"$early/modules"
    # Documentation and translations would be a third of it.
    mmdebstrap --quiet --variant=minbase --arch="$architecture" --include="$(echo "$wanted" | paste -sd,)" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --essential-hook="mkdir -p \"\$1/etc/initramfs-tools/conf.d\"" \
        --essential-hook="copy-in '$early/modules' /etc/initramfs-tools" \
        --essential-hook="upload '$early/conf' /etc/initramfs-tools/conf.d/orangery" \
        "$suite" "$base.new.tar" "$sources"
    rm -r "$sources" "$early"
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

inside() { SYSTEMD_OFFLINE=1 DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }
cp "$package" "$root/agent.deb"
inside dpkg --install --force-confold /agent.deb >/dev/null
rm "$root/agent.deb"
inside systemctl --quiet enable systemd-networkd systemd-resolved systemd-timesyncd ssh orangery-agent orangery-grow-root
inside systemctl --quiet mask systemd-networkd-wait-online apt-daily.timer apt-daily-upgrade.timer
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
mv "$work/output/board.img" "$image"
(cd "$(dirname "$image")" && sha256sum "$(basename "$image")" >"$(basename "$image").sha256")
say "$image: $(stat -c %s "$image") bytes, $(du -k "$image" | cut -f1) KiB of them not empty"
