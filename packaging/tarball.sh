#!/usr/bin/env bash
# Makes tarballs of the packages that packages.sh has made, for machines without dpkg: tarball.sh [--key SSH_KEY].
# With a key (`ssh-keygen -t ed25519 -f KEY`) they are signed, and only signed ones are installed by install.sh. The same
# packages give the same bytes.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"
key=
if [ "${1:-}" = --key ]; then
    key=$2
    [ -r "$key" ] || fail "the key $key cannot be read"
fi
mkdir -p "$out/tarballs"
made=0
for package in "$out"/packages/*.deb; do
    [ -e "$package" ] || fail "no packages in $out/packages; make them first (\`just packages\`)"
    name=$(basename "$package" .deb)
    tarball=$out/tarballs/${name//_/-}.tar.gz
    dpkg-deb --fsys-tarfile "$package" | tar --delete ./usr/share/lintian | gzip -9n >"$tarball"
    rm -f "$tarball.sig"
    [ -z "$key" ] || ssh-keygen -q -Y sign -f "$key" -n orangery-release "$tarball" 2>/dev/null
    made=$((made + 1))
done
install -m 755 "$top/packaging/install.sh" "$out/tarballs/"
if [ -n "$key" ]; then
    printf 'releases %s\n' "$(ssh-keygen -y -f "$key")" >"$out/tarballs/allowed_signers"
fi
say "$made tarballs in $out/tarballs$([ -n "$key" ] || echo ', not signed')"
