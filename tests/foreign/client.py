"""python-tuf, asked what it makes of a repository.

    client.py REPOSITORY STATE AHEAD_DAYS [TARGET...]

REPOSITORY holds `metadata/` and `targets/` and is served over loopback; STATE is the client's own directory, in which
`root.json` is what it trusts to begin with. The clock runs AHEAD_DAYS ahead. Prints one line of JSON: the versions that are
trusted and the SHA-256 of each target (null if it is not listed), or why the repository is refused.
"""

import datetime
import functools
import hashlib
import http.server
import json
import os
import sys
import threading

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve(directory):
    answer = functools.partial(Quiet, directory=directory)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def look(repository, state, ahead_days, paths):
    url = serve(repository)
    downloads = os.path.join(state, "downloads")
    os.makedirs(downloads, exist_ok=True)
    updater = Updater(state, f"{url}/metadata/", downloads, f"{url}/targets/")
    updater._trusted_set.reference_time += datetime.timedelta(days=ahead_days)
    updater.refresh()
    trusted = updater._trusted_set
    versions = {role: getattr(trusted, role).version for role in ("root", "timestamp", "snapshot", "targets")}
    targets = {}
    for path in paths:
        info = updater.get_targetinfo(path)
        targets[path] = None
        if info is not None:
            with open(updater.download_target(info), "rb") as file:
                targets[path] = hashlib.sha256(file.read()).hexdigest()
    return {"versions": versions, "targets": targets}


def main():
    repository, state, ahead_days, *paths = sys.argv[1:]
    try:
        print(json.dumps(look(repository, state, int(ahead_days), paths)))
    except (RepositoryError, DownloadError) as error:
        print(json.dumps({"refused": f"{type(error).__name__}: {error}"}))


main()
