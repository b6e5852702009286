"""`python -m deploy [CHECK…]`: run the checks, print a line for each and each finding. Exit code 1 if there is any.

A check is a function from the folder of the project to findings; a finding is a line that says where, what was wanted
and what is there. Runs in the tools' own environment (scripts/_deploy.sh).
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from deploy import rules

ROOT = Path(__file__).resolve().parents[1]
# Each is the function `check` of the module of that name, imported when it is asked for: some take seconds to import.
CHECKS = ("dockerfiles", "locks", "audit", "compose", "rules", "kubernetes", "policy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/check-deploy", description="Check Dockerfiles, Compose, Kubernetes.")
    parser.add_argument("check", nargs="*", metavar="CHECK", help=f"one or more of {', '.join(CHECKS)}; all by default")
    parser.add_argument("--write", action="store_true", help="first write the PrometheusRule from the rule files")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    options = parser.parse_args(arguments)
    if unknown := set(options.check) - set(CHECKS):
        parser.error(f"wanted checks of {', '.join(CHECKS)}, got {', '.join(sorted(unknown))}")
    if options.write:
        rules.write(options.root)
    bad = False
    for name in options.check or CHECKS:
        began = time.monotonic()
        findings: list[str] = importlib.import_module(f"deploy.{name}").check(options.root)
        bad = bad or bool(findings)
        sys.stdout.write(f"{name}: {len(findings)} findings, {time.monotonic() - began:.1f} s\n")
        sys.stdout.write("".join(f"  {finding}\n" for finding in findings))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
