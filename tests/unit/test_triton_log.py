"""Which lines of Triton's log the supervisor passes on."""

from __future__ import annotations

import pytest

from server import settings, triton_log

INFO = '2026-11-25T01:43:36Z I 17738 model_lifecycle.cc:472] "loading: bert:1"'
CALL = '2026-11-25T01:43:36Z I 17738 model.py:101] "call: texts=1 tokens=2 id=x"'
WARNING = '2026-11-25T01:43:40Z W 17738 model.py:98] "refused: MAX_LENGTH[0]: wanted 2 to 512 tokens, got 0; id=x"'
NOISE = '2026-11-25T01:43:36Z E 17738 server.cc:241] "CudaDriverHelper has not been initialized."'
TABLE = "| bert            | 1       | READY  |"
TRACEBACK = "Traceback (most recent call last):"
# Words of a caller do not make a line a call.
FEIGNED = '2026-11-25T01:43:36Z I 17738 http_server.cc:1] "HTTP request: 2 /v2/models/call: x"'
LINES = [INFO, CALL, WARNING, NOISE, TABLE, TRACEBACK, FEIGNED, ""]


@pytest.mark.parametrize(
    ("passed_on", "expected"),
    [
        ("warnings", [WARNING, TRACEBACK]),
        ("calls", [CALL, WARNING, TRACEBACK]),
        ("all", [INFO, CALL, WARNING, NOISE, TABLE, TRACEBACK, FEIGNED]),
    ],
)
def test_lines_passed_on(monkeypatch: pytest.MonkeyPatch, passed_on: str, expected: list[str]) -> None:
    monkeypatch.setattr(triton_log, "has_gpu", lambda: False)
    assert [line for line in LINES if triton_log.line_filter(passed_on)(line)] == expected


def test_with_a_gpu_its_troubles_are_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_log, "has_gpu", lambda: True)
    assert triton_log.line_filter("warnings")(NOISE)


def test_another_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings.parse(["--triton-log", "calls"]).triton_log == "calls"
    with pytest.raises(SystemExit) as end:
        settings.parse(["--triton-log", "debug"])
    assert end.value.code == 2
    assert "--triton-log: wanted one of warnings, calls, all, got 'debug'" in capsys.readouterr().err
