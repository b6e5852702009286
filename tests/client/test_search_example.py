"""docs/search-example.md: the program runs, and finds what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import ROOT, Service


def parts(answer: str) -> dict[str, list[str]]:
    """Question -> the paragraphs found, nearest first, without their cosines."""
    found = {}
    for part in answer.strip().split("\n\n")[1:]:
        question, *lines = part.splitlines()
        assert all(re.fullmatch(r"  0\.\d\d  .{,100}", line) for line in lines)
        found[question] = [line[8:] for line in lines]
    return found


@pytest.mark.triton
def test_the_example(service: Service, tmp_path: Path) -> None:
    page = (ROOT / "docs/search-example.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (promised,) = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    code = code.replace("127.0.0.1:8001", f"127.0.0.1:{service.grpc_port}")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert 300 < int(done.stdout.split()[0]) < 900
    found, shown = parts(done.stdout), parts(promised)
    assert list(found) == list(shown)
    assert all(len(paragraphs) == 2 for paragraphs in found.values())
    # Python's documentation changes a little from release to release: most of what the page shows must be found.
    same = [question for question in shown if found[question][0] == shown[question][0]]
    assert len(same) >= 3, f"{done.stdout}\nwanted\n{promised}"
