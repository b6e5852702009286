"""Orders over the socket: carried out one by one, told of, and from nobody else."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from server.control import Say, take_orders
from server.errors import ModelError


async def order(path: Path, line: bytes) -> list[dict[str, object]]:
    while not path.exists():
        await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line + b"\n")
    answers = [json.loads(answer) async for answer in reader]
    writer.close()
    return answers


def carried_out(path: Path, *lines: bytes) -> list[list[dict[str, object]]]:
    running = 0

    async def update(repository: Path, say: Say) -> None:
        nonlocal running
        running += 1
        assert running == 1
        say("begun")
        await asyncio.sleep(0.05)
        running -= 1
        if repository.name == "bad":
            raise ModelError("no such model")

    async def scenario() -> list[list[dict[str, object]]]:
        server = asyncio.create_task(take_orders(path, update))
        try:
            return await asyncio.gather(*(order(path, line) for line in lines))
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)

    return asyncio.run(scenario())


def test_orders_are_carried_out_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "own" / "8000.sock"
    good, bad = b'{"model_repository": "/good"}', b'{"model_repository": "/bad"}'
    done = [{"progress": "begun"}, {"done": True}]
    failed = [{"progress": "begun"}, {"failed": "no such model"}]
    assert carried_out(path, good, bad, good) == [done, failed, done]
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


@pytest.mark.parametrize("line", [b"", b"nonsense", b"[]", b"{}", b'{"model_repository": 7}'])
def test_nonsense_is_refused(tmp_path: Path, line: bytes) -> None:
    (answers,) = carried_out(tmp_path / "own" / "8000.sock", line)
    assert "wanted a JSON object with model_repository" in str(answers[0]["failed"])


def test_a_directory_that_others_may_enter_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o755)

    async def scenario() -> None:
        async def update(repository: Path, say: Say) -> None: ...

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(take_orders(tmp_path / "8000.sock", update), 0.2)

    asyncio.run(scenario())
    assert not (tmp_path / "8000.sock").exists()
    assert f"wanted {tmp_path} to be ours alone" in capsys.readouterr().err
