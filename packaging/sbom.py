#!/usr/bin/env python3
"""Writes what a program is made of as a CycloneDX 1.5 document (cyclonedx.org/docs/1.5/json).

What goes in is what Cargo resolves for this program and target, build scripts included, with the licences and digests
that Cargo knows. Nothing in it depends on the machine or the time, so that the same sources have the same document.
"""

import argparse
import hashlib
import json
import pathlib
import re
import subprocess
import tomllib
import uuid

TOP = pathlib.Path(__file__).resolve().parent.parent


def cargo(*words):
    return subprocess.run(["cargo", *words], cwd=TOP, check=True, capture_output=True, text=True).stdout


def resolved(package, target, edges):
    """(name, version) of all that `package` is built from: the package itself first."""
    tree = cargo("tree", "--locked", "--package", package, "--target", target, "--edges", edges, "--prefix", "none",
                 "--format", "{p}", "--no-dedupe")
    words = (line.split() for line in tree.splitlines() if line.strip())
    return list(dict.fromkeys((word[0], word[1].removeprefix("v")) for word in words))


def reference(name, version):
    return f"pkg:cargo/{name}@{version}"


def component(package, checksum):
    name, version = package["name"], package["version"]
    found = {"type": "library", "bom-ref": reference(name, version), "name": name, "version": version,
             "purl": reference(name, version), "scope": "required"}
    if package.get("license"):
        # Old manifests write MIT/Apache-2.0.
        found["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("repository", "") and re.match(r"https?://", package["repository"]):
        found["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return found


def edges_of(package, known, lock):
    """The references of what a package of the lock file depends on, among those that are in this program."""
    versions = {}
    for name, version in known:
        versions.setdefault(name, []).append(version)
    found = set()
    for wanted in lock.get(package, {}).get("dependencies", []):
        name, *version = wanted.split()
        for candidate in version[:1] or versions.get(name, []):
            if (name, candidate) in known:
                found.add(reference(name, candidate))
    return sorted(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--file", required=True, type=pathlib.Path, help="the program")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    given = parser.parse_args()

    everything = resolved(given.package, given.target, "normal,build")
    linked = set(resolved(given.package, given.target, "normal"))
    known = set(everything)
    metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1"))
    packages = {(package["name"], package["version"]): package for package in metadata["packages"]}
    lock = {(entry["name"], entry["version"]): entry
            for entry in tomllib.loads((TOP / "Cargo.lock").read_text())["package"]}

    program, *parts = everything
    components = [component(packages[part], lock.get(part, {}).get("checksum")) for part in sorted(parts)]
    for part in components:
        if (part["name"], part["version"]) not in linked:
            part["scope"] = "excluded"  # it built the program and is not in it
    root = component(packages[program], None) | {"type": "application"}
    root["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(given.file.read_bytes()).hexdigest()}]
    root["properties"] = [{"name": "orangery:target", "value": given.target}]
    del root["scope"]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, root['hashes'][0]['content'])}",
        "version": 1,
        "metadata": {"component": root},
        "components": components,
        "dependencies": [{"ref": reference(*part), "dependsOn": edges_of(part, known, lock)} for part in everything],
    }
    given.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
