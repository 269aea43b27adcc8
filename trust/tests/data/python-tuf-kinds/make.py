"""Makes the files of this directory with python-tuf 7.0.0: a root that needs a key of each kind, and targets that are
delegated twice, by hashes and by paths.

    python3 -m venv venv && venv/bin/pip install tuf==7.0.0 'securesystemslib[crypto]' && venv/bin/python make.py

Keys are new each time, so all files change.
"""
from datetime import datetime, timezone
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

here = Path(__file__).parent
expires = datetime(2100, 1, 1, tzinfo=timezone.utc)
rsa, ecdsa, ed25519 = CryptoSigner.generate_rsa(), CryptoSigner.generate_ecdsa(), CryptoSigner.generate_ed25519()
bins, team = CryptoSigner.generate_rsa(), CryptoSigner.generate_ecdsa()


def write(name, content, *signers):
    metadata = Metadata(content)
    for signer in signers:
        metadata.sign(signer, append=True)
    metadata.to_file(str(here / name))
    return (here / name).read_bytes()


root = Root(expires=expires, consistent_snapshot=True)
for signer in [rsa, ecdsa, ed25519]:
    root.add_key(signer.public_key, "root")
root.roles["root"].threshold = 3
root.add_key(rsa.public_key, "timestamp")
root.add_key(ecdsa.public_key, "snapshot")
root.add_key(ecdsa.public_key, "targets")
write("1.root.json", root, rsa, ecdsa, ed25519)

leaf = Targets(version=1, expires=expires)
path = "team/tool/1.0.0.bin"
leaf.targets[path] = TargetFile.from_data(path, b"any bytes\n", ["sha512"])
files = {"team/tool": write("1.team%2Ftool.json", leaf, team)}

middle = Targets(version=2, expires=expires)
middle.delegations = Delegations({}, {"team/tool": DelegatedRole("team/tool", [], 1, True, ["team/tool/*.bin"])})
middle.add_key(team.public_key, "team/tool")
low, high = [f"{digit:x}" for digit in range(8)], [f"{digit:x}" for digit in range(8, 16)]
top = Targets(version=3, expires=expires)
top.delegations = Delegations({}, {})
for name, prefixes in [("low", low), ("high", high)]:
    top.delegations.roles[name] = DelegatedRole(name, [], 1, False, path_hash_prefixes=prefixes)
    top.add_key(bins.public_key, name)
    files[name] = write(f"2.{name}.json", middle, bins)
files["targets"] = write("3.targets.json", top, ecdsa)

snapshot = Snapshot(version=4, expires=expires)
for name, version in [("targets", 3), ("low", 2), ("high", 2), ("team/tool", 1)]:
    snapshot.meta[f"{name}.json"] = MetaFile.from_data(version, files[name], ["sha256"])
snapshot_bytes = write("4.snapshot.json", snapshot, ecdsa)

timestamp = Timestamp(version=5, expires=expires)
timestamp.snapshot_meta = MetaFile.from_data(4, snapshot_bytes, ["sha256"])
write("timestamp.json", timestamp, rsa)
