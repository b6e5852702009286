"""Runs a graph on cases, in a process of its own, under whichever ONNX Runtime is first on the path.

    python -P _run_onnx.py GRAPH CASES.npz RESULTS.npz

A crash of ONNX Runtime is a possible outcome, and must not take the export along: runtimes.py starts this file and
reads what is left. It imports nothing of this package.

CASES    "<case>/<input name>": int64 (batch, sequence)
RESULTS  "version": str; "load": why the graph could not be loaded, or ""; for each case either
         "output/<case>": float32 (batch, sequence, hidden), and "pooled/<case>": float32 (batch, hidden) if the graph
         has a second output; or "error/<case>": str
Standard output names each case before it runs, so that the last line of a crashed run tells which one it was.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import onnxruntime

Array = npt.NDArray[np.generic]


def main(graph: str, cases_path: str, results_path: str) -> None:
    """See above."""
    results: dict[str, Array] = {"version": np.array(onnxruntime.__version__), "load": np.array("")}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are results here
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other work may share the cores
    sys.stdout.write("loading the graph\n")
    sys.stdout.flush()
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        results["load"] = np.array(str(error))
        np.savez(results_path, **results)
        return
    # Loaded once, because each access of an npz reads the file anew.
    with np.load(cases_path) as file:
        feeds: dict[str, dict[str, Array]] = {}
        for key in file.files:
            case, name = key.split("/", 1)
            feeds.setdefault(case, {})[name] = file[key]
    for case, feed in feeds.items():
        sys.stdout.write(f"{case}\n")
        sys.stdout.flush()
        try:
            for kind, output in zip(("output", "pooled"), session.run(None, feed), strict=False):
                results[f"{kind}/{case}"] = output
        except Exception as error:  # as above
            results[f"error/{case}"] = np.array(str(error))
    np.savez(results_path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
