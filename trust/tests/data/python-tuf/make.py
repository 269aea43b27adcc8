"""Makes the files of this directory with python-tuf 7.0.0, an implementation that shares no code with ours:

    python3 -m venv venv && venv/bin/pip install tuf==7.0.0 'securesystemslib[crypto]' && venv/bin/python make.py

Keys are new each time, so all files change.
"""
from datetime import datetime, timezone
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

here = Path(__file__).parent
expires = datetime(2100, 1, 1, tzinfo=timezone.utc)
keys = {role: CryptoSigner.generate_ed25519() for role in ["root", "recovery", "targets", "snapshot", "timestamp", "newer"]}


def write(name, content, *signers):
    metadata = Metadata(content)
    for signer in signers:
        metadata.sign(keys[signer], append=True)
    metadata.to_file(str(here / name))
    return (here / name).read_bytes()


root = Root(expires=expires, consistent_snapshot=True)
for role in ["root", "targets", "snapshot", "timestamp"]:
    root.add_key(keys[role].public_key, role)
root.add_key(keys["recovery"].public_key, "root")
root.roles["root"].threshold = 2
root.unrecognized_fields["note"] = 'tab\t, line\nbreak, "quotes", back\\slash, é, 🍊'
write("1.root.json", root, "root", "recovery")

root.version = 2
root.revoke_key(keys["timestamp"].public_key.keyid, "timestamp")
root.add_key(keys["newer"].public_key, "timestamp")
write("2.root.json", root, "root", "recovery")

manifest = b"any bytes\n"
file = TargetFile.from_data("greeter/1.0.0/manifest.json", manifest, ["sha256", "sha512"])
file.unrecognized_fields["custom"] = {"app": "greeter", "version": "1.0.0", "more": {"list": [1, -2, None, True]}}
targets = Targets(version=3, expires=expires, targets={file.path: file})
targets_bytes = write("3.targets.json", targets, "targets")

snapshot = Snapshot(version=5, expires=expires)
snapshot.meta["targets.json"] = MetaFile.from_data(3, targets_bytes, ["sha256"])
snapshot_bytes = write("5.snapshot.json", snapshot, "snapshot")

timestamp = Timestamp(version=8, expires=expires)
timestamp.snapshot_meta = MetaFile.from_data(5, snapshot_bytes, ["sha512"])
write("timestamp.json", timestamp, "newer")
