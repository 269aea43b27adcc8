# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Inventory of the nodes that a coordinator knows."""

from __future__ import annotations

DOCUMENTATION = """
name: fleet
short_description: Nodes that an Orangery coordinator knows
version_added: "0.1.0"
author: The Orangery developers
description:
  - Asks C(orangery node list --json) and makes a host of each node whose certificate is not revoked.
  - The file that configures it must end in C(orangery.yml) or C(orangery.yaml).
extends_documentation_fragment:
  - constructed
options:
  plugin:
    description: The name of this plugin.
    required: true
    choices: [orangery.fleet.fleet]
  command:
    description: The C(orangery) command with its options, such as C(orangery --dir ~/.config/orangery).
    type: str
    default: orangery
    env:
      - name: ORANGERY_COMMAND
  timeout_secs:
    description: How long the command may take, in seconds.
    type: int
    default: 30
"""

EXAMPLES = """
# fleet.orangery.yml
plugin: orangery.fleet.fleet
command: orangery --dir ~/.config/orangery
compose:
  ansible_host: inventory_hostname ~ ".local"
groups:
  # Nodes that are connected, and those that are not.
  online: orangery_online
  offline: not orangery_online
keyed_groups:
  # site_attic, site_garden
  - key: orangery_labels.site
    prefix: site
    default_value: nowhere
"""

import json
import os
import shlex
import subprocess

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable


class InventoryModule(BaseInventoryPlugin, Constructable):
    """A host of each node, with what the node last reported as variables."""

    NAME = "orangery.fleet.fleet"

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith(("orangery.yml", "orangery.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        strict = self.get_option("strict")
        for node in self._nodes():
            if node.get("revoked"):
                continue
            host = node["node"]
            self.inventory.add_host(host)
            variables = _variables(node)
            for name, value in variables.items():
                self.inventory.set_variable(host, name, value)
            self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)

    def _nodes(self):
        words = [os.path.expanduser(word) for word in shlex.split(self.get_option("command"))]
        words += ["node", "list", "--json"]
        told = " ".join(words)
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, check=False, timeout=self.get_option("timeout_secs")
            )
        except FileNotFoundError as error:
            raise AnsibleParserError(f"cannot run `{told}`: there is no such program; set `command`") from error
        except subprocess.TimeoutExpired as error:
            raise AnsibleParserError(f"`{told}` did not end in time; is the coordinator reachable?") from error
        if done.returncode != 0:
            raise AnsibleParserError(f"`{told}` failed: {done.stderr.strip()}")
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise AnsibleParserError(f"`{told}` did not answer in JSON: {error}") from error


def _variables(node):
    """What is known of a node. Before its first report only its name is."""
    reported = node.get("reported") or {}
    apps = {app["app"]: app for app in reported.get("apps", [])}
    return {
        "orangery_node": node["node"],
        "orangery_online": bool(node.get("online")),
        "orangery_seen_at": node.get("seen_at"),
        "orangery_agent_version": reported.get("agent_version"),
        "orangery_platform": reported.get("platform"),
        "orangery_board": reported.get("board"),
        "orangery_labels": reported.get("labels", {}),
        "orangery_apps": {
            name: {
                "version": (app.get("current") or {}).get("version"),
                "phase": app.get("phase"),
                "healthy": app.get("healthy"),
            }
            for name, app in apps.items()
        },
    }
