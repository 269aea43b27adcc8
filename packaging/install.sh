#!/bin/sh
# Installs a tarball of Orangery on a machine without dpkg, if its signature is good; otherwise nothing is changed.
#
#   install.sh [--signers FILE] [--root DIR] TARBALL      TARBALL.sig lies beside it
#   install.sh [--root DIR] --remove orangery-agent|orangery
#
# FILE says whose signature counts, in the form of ssh-keygen(1), ALLOWED SIGNERS: `releases ssh-ed25519 AAAA...`. Without it,
# allowed_signers beside this script. With --root files are put below DIR and no service is touched.
# Exit codes: 0 done, 1 error, 2 the command line is not understood, 3 the signature is missing or not good.
set -eu

signers=$(dirname "$0")/allowed_signers
root=
remove=
tarball=
fail() {
    echo "install.sh: $2" >&2
    exit "$1"
}
while [ $# -gt 0 ]; do
    case $1 in
        --signers | --root | --remove)
            [ $# -ge 2 ] || fail 2 "$1 needs a value"
            case $1 in
                --signers) signers=$2 ;;
                --root) root=$2 ;;
                --remove) remove=$2 ;;
            esac
            shift
            ;;
        -h | --help)
            sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0"
            exit 0
            ;;
        -*) fail 2 "unknown option $1; install.sh --help" ;;
        *) tarball=$1 ;;
    esac
    shift
done
running=false
if [ -z "$root" ]; then
    [ "$(id -u)" = 0 ] || fail 1 "only root can install; nothing was changed (sudo, or --root DIR)"
    [ ! -d /run/systemd/system ] || running=true
fi

# Where the names of the installed files are kept, by which they are removed.
list_of() { echo "$root/usr/lib/orangery/$1.files"; }

if [ -n "$remove" ]; then
    list=$(list_of "$remove")
    [ -f "$list" ] || fail 1 "$remove was not installed by this script: $list is missing"
    if $running; then
        systemctl disable --now "$remove.service" || true
    fi
    while read -r file; do
        rm -f "$root/$file"
    done <"$list"
    rm -f "$list"
    echo "$remove is removed; its settings and state stay in /etc/orangery and /var/lib."
    exit 0
fi

[ -n "$tarball" ] || fail 2 "name the tarball; install.sh --help"
command -v ssh-keygen >/dev/null || fail 1 "ssh-keygen is missing, which checks the signature: install openssh-client (or openssh)"
for file in "$tarball" "$signers"; do
    [ -r "$file" ] || fail 1 "$file cannot be read; nothing was changed"
done
[ -r "$tarball.sig" ] || fail 3 "$tarball.sig is missing: an unsigned tarball is not installed; nothing was changed"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
# What is checked is what is unpacked, whoever can write to the original.
cp "$tarball" "$work/tarball"
if ! ssh-keygen -q -Y verify -f "$signers" -I releases -n orangery-release -s "$tarball.sig" <"$work/tarball" >"$work/said" 2>&1; then
    sed 's/^/  ssh-keygen: /' "$work/said" >&2
    fail 3 "the signature of $tarball is not good: it was changed, or signed by somebody else; nothing was changed"
fi
mkdir "$work/tree"
tar -xzf "$work/tarball" -C "$work/tree" --no-same-owner

name=orangery
[ ! -e "$work/tree/usr/bin/orangery-agent" ] || name=orangery-agent
if [ -z "$root" ]; then
    if command -v dpkg-query >/dev/null && dpkg-query --search "/usr/bin/$name" >/dev/null 2>&1; then
        fail 1 "$name was installed from a package; upgrade that package, or remove it first; nothing was changed"
    fi
    "$work/tree/usr/bin/$name" --version >/dev/null 2>&1 ||
        fail 1 "this $name does not run here ($(uname -m)); take the tarball of this architecture; nothing was changed"
fi

(cd "$work/tree" && find usr -type f | sort) >"$work/files"
while read -r file; do
    mkdir -p "$root/$(dirname "$file")"
    # A program that runs is replaced, not written to; after a power cut a file is old or new.
    cp -p "$work/tree/$file" "$root/$file.new"
    sync "$root/$file.new" 2>/dev/null || sync
    mv -f "$root/$file.new" "$root/$file"
done <"$work/files"
mkdir -p "$root/usr/lib/orangery"
cp "$work/files" "$(list_of "$name")"

if $running; then
    [ "$name" = orangery-agent ] || systemd-sysusers orangery.conf
    systemd-tmpfiles --create "$name.conf"
    systemctl daemon-reload
    systemctl enable --quiet "$name.service"
    if [ "$name" = orangery ]; then
        systemctl restart orangery.service
    elif systemctl --quiet is-active orangery-agent.service; then
        # That one decides when: never in the middle of a deployment.
        systemctl --no-block restart orangery-agent-restart.service
    elif [ -e /var/lib/orangery/identity/coordinator.json ]; then
        systemctl start orangery-agent.service
    fi
fi
echo "$name is installed."
