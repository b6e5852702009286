"""`scripts/bench hops`: where the time of a single text goes, one hop at a time.

The same texts are asked one by one of ever more of the service, in blocks that take turns:

    graph                bare ONNX Runtime, one run after the other
    graph, after a pause the same, when the processors have slept and its weights have left the caches
    bert                 Triton's step alone, over HTTP: the token ids are in the request, the vector in the answer
    ensemble             `embedding_fused` over HTTP: bert and the tokenizer before it
    REST                 the shim: JSON, gRPC and all that it keeps account of

What a hop takes is the median over the texts of its time less the time of the one before. The client is the load
generator's, which costs 0.03 ms a request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import uvloop
from tokenizers import Tokenizer

from benchmarks.errors import BenchmarkError
from benchmarks.http_client import Connection, post_bytes
from benchmarks.repositories import exported
from benchmarks.sides import Service, service
from benchmarks.texts import workload
from benchmarks.worker import Worker
from export.sources import DEFAULT_MODEL
from server.processors import available_processors

__all__ = ["Hop", "main", "requests", "table"]

_LENGTH = 128
_WIDTH = 128  # as the tokenizer pads
_GRAPH, _PAUSED, _BERT, _ENSEMBLE, _REST = "graph", "graph, after a pause", "bert", "ensemble", "REST"
# What the rest of a request leaves to bert's processors between two runs of it.
_PAUSE_S = 0.01


@dataclass(frozen=True)
class Hop:
    """Seconds of each text, the median of its rounds; in the order of the texts."""

    name: str
    took_s: Sequence[float]


def requests(texts: Sequence[str], ids: Sequence[Sequence[int]], running: Service) -> Mapping[str, list[bytes]]:
    """By hop, a request for each text, ready to be sent."""
    triton, rest = f"http://{running.http_address}", f"http://127.0.0.1:{running.rest_port}"

    def rows(values: Sequence[int]) -> list[int]:
        return [*values, *[0] * (_WIDTH - len(values))]

    def infer(model: str, inputs: Mapping[str, tuple[str, list[object]]], outputs: Sequence[str]) -> bytes:
        body = {
            "inputs": [
                {"name": name, "datatype": datatype, "shape": [1, len(data)], "data": data}
                for name, (datatype, data) in inputs.items()
            ],
            "outputs": [{"name": name, "parameters": {"binary_data": True}} for name in outputs],
        }
        return post_bytes(f"{triton}/v2/models/{model}/infer", json.dumps(body).encode())

    return {
        _BERT: [
            infer(
                "bert",
                {
                    "input_ids": ("INT64", [*rows(each)]),
                    "attention_mask": ("INT64", [*rows([1] * len(each))]),
                    "token_type_ids": ("INT64", [*rows([])]),
                },
                ["sentence_embedding"],
            )
            for each in ids
        ],
        _ENSEMBLE: [
            infer(
                "embedding_fused",
                {"TEXT": ("BYTES", [text]), "MAX_LENGTH": ("INT32", [_LENGTH])},
                ["EMBEDDING", "TOKENS"],
            )
            for text in texts
        ],
        _REST: [
            post_bytes(f"{rest}/embedding", json.dumps({"texts": [text], "max_length": _LENGTH}).encode())
            for text in texts
        ],
    }


def table(hops: Sequence[Hop]) -> str:
    """Markdown: median and mean time of a text, and what the hop adds to the one before."""
    lines = ["| hop | p50 ms | mean ms | adds, p50 ms | adds, mean ms |", "|" + " --- |" * 5]
    before: Hop | None = None
    for hop in hops:
        row = [hop.name, *_both(hop.took_s)]
        if before is not None:
            row += _both([mine - its for mine, its in zip(hop.took_s, before.took_s, strict=True)])
        lines.append(f"| {' | '.join(row)} |" if before is not None else f"| {' | '.join(row)} | | |")
        before = hop
    return "\n".join(lines)


def _both(seconds: Sequence[float]) -> list[str]:
    return [f"{1000 * statistics.median(seconds):.2f}", f"{1000 * statistics.fmean(seconds):.2f}"]


async def _block(urls: Sequence[bytes], url: str) -> list[float]:
    connection = await Connection.open(url)
    took_s = []
    try:
        for number, request in enumerate([*urls[:4], *urls]):
            began = time.perf_counter()
            status, body = await connection.send(request)
            if status != 200:
                raise BenchmarkError(f"{url}: wanted 200, got {status}: {body[:200]!r}")
            if number >= 4:
                took_s.append(time.perf_counter() - began)
    finally:
        connection.close()
        await asyncio.sleep(0)  # which the loop needs to close it
    return took_s


def _measure(count: int, rounds: int) -> list[Hop]:
    repository, _ = exported(DEFAULT_MODEL, "auto")
    texts = workload("mixed", count)
    tokenizer = Tokenizer.from_file(str(repository / "tokenizer" / "1" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_LENGTH)
    ids = [each.ids for each in tokenizer.encode_batch(texts)]
    taken: dict[str, list[list[float]]] = {name: [] for name in (_GRAPH, _PAUSED, _BERT, _ENSEMBLE, _REST)}
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(service(repository))
        graph = str(repository / "bert" / "1" / "model.onnx")
        threads = str(available_processors())
        bare = stack.enter_context(Worker("benchmarks.bare", graph, "--threads", threads))
        asked = requests(texts, ids, running)
        loop = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        urls = dict.fromkeys((_BERT, _ENSEMBLE), f"http://{running.http_address}")
        urls[_REST] = f"http://127.0.0.1:{running.rest_port}"
        names = list(taken)
        for turn in range(rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                if name in asked:
                    taken[name].append(loop.run(_block(asked[name], urls[name])))
                else:
                    pause_s = _PAUSE_S if name == _PAUSED else 0
                    answer = bare.ask(batches=[[each] for each in ids], seconds=0, pause_s=pause_s)
                    taken[name].append(answer["latencies_s"])
    return [
        Hop(name, [statistics.median(rounds_of_text) for rounds_of_text in zip(*blocks, strict=True)])
        for name, blocks in taken.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and give the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench hops", description=__doc__.split("\n\n")[0])
    parser.add_argument("--texts", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="of each hop (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        hops = _measure(options.texts, options.rounds)
    except BenchmarkError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    sys.stdout.write(f"{table(hops)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
