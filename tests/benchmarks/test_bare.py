from pathlib import Path

import numpy as np

from benchmarks.bare import inputs
from benchmarks.worker import Worker


def test_a_batch_is_padded_to_its_longest() -> None:
    feed = inputs([[101, 7, 102], [101, 102]])
    np.testing.assert_array_equal(feed["input_ids"], [[101, 7, 102], [101, 102, 0]])
    np.testing.assert_array_equal(feed["attention_mask"], [[1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(feed["token_type_ids"], np.zeros((2, 3)))


def test_circles_over_the_real_graph(model_repository: Path) -> None:
    with Worker("benchmarks.bare", str(model_repository / "bert" / "1" / "model.onnx"), "--threads", "1") as worker:
        answer = worker.ask(batches=[[[101, 102]], [[101, 7592, 102]]], seconds=0.05)
    assert len(answer["latencies_s"]) == 2 * answer["circles"]
    assert sum(answer["latencies_s"]) <= answer["elapsed_s"]


def test_a_pause_is_no_part_of_a_run(model_repository: Path) -> None:
    with Worker("benchmarks.bare", str(model_repository / "bert" / "1" / "model.onnx"), "--threads", "1") as worker:
        answer = worker.ask(batches=[[[101, 102]]] * 3, seconds=0, pause_s=0.2)
    assert answer["elapsed_s"] > 0.6
    assert answer["elapsed_s"] - sum(answer["latencies_s"]) > 0.6
