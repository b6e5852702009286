"""Known vulnerabilities of what the images install: docker/requirements against the OSV database, by pip-audit.

A machine that cannot reach the database audits nothing, and says so; that is no finding. PyPI's own list is not asked:
behind a mirror pip-audit takes every package for unknown, and passes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from deploy.locks import LOCKS
from deploy.tools import run

__all__ = ["check"]

_SERVICE = "https://api.osv.dev/v1/query"
# The oldest versions that must still work are tested, not installed anywhere.
_FILES = tuple(name for name in LOCKS if name != "oldest")
_UNREACHABLE = re.compile(r"ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|Tried to connect")


class _Unreachable(Exception):
    """The database did not answer."""


def check(root: Path, service: str = _SERVICE) -> list[str]:
    """Findings in all lock files; `service` is the address of a query to OSV's API, version 1."""
    try:
        return [finding for name in _FILES for finding in _audit(root, f"docker/requirements/{name}.txt", service)]
    except _Unreachable:
        sys.stderr.write(
            f"audit: NOT DONE, {service} cannot be reached from this machine; run scripts/check-deploy audit "
            "where it can\n"
        )
        return []


def _audit(root: Path, file: str, service: str) -> Iterator[str]:
    arguments = ["--requirement", file, "--disable-pip", "--require-hashes", "--vulnerability-service", "osv"]
    arguments += ["--osv-url", service, "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    done = run("pip-audit", arguments, root)
    if done.returncode not in (0, 1) or not done.stdout.startswith("{"):
        if _UNREACHABLE.search(done.stderr):
            raise _Unreachable
        yield f"{file}: wanted an audit, pip-audit failed: {done.stderr.strip().splitlines()[-1:]}"
        return
    for each in json.loads(done.stdout)["dependencies"]:
        if "skip_reason" in each:
            yield f"{file}: {each['name']} was not audited: {each['skip_reason']}"
        for found in each.get("vulns", ()):
            fixed = ", ".join(found["fix_versions"]) or "no version"
            yield f"{file}: {each['name']} {each['version']} has {found['id']}, fixed in {fixed}"
