"""Accept headers, as RFC 9110 has them."""

from __future__ import annotations

import pytest

from client.rest.accept import preferred

JSON, BINARY, NPY = OFFERS = ("application/json", "application/octet-stream", "application/x-npy")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], JSON),
        ([""], JSON),
        (["*/*"], JSON),
        (["application/*"], JSON),
        (["text/html, application/xhtml+xml, */*;q=0.8"], JSON),
        (["application/octet-stream"], BINARY),
        (["Application/Octet-Stream"], BINARY),
        (["application/x-npy"], NPY),
        (["application/x-npy, application/octet-stream"], BINARY),  # equal: the server's order
        (["application/octet-stream;q=0.5, application/x-npy"], NPY),
        (["application/json;q=0.2, application/octet-stream;q=0.3"], BINARY),
        (["application/octet-stream", "application/json;q=0.9"], BINARY),  # two headers
        (["application/octet-stream;q=0.1, */*;q=0.2"], JSON),  # the more specific one holds for its own type
        (["application/json;q=0, */*"], BINARY),
        (["application/octet-stream;q=0"], JSON),
        (["application/octet-stream ; version=1 ; q=1.0"], BINARY),
        # Nothing that there is, or nonsense: JSON all the same.
        (["text/html"], JSON),
        (["application/octet-stream;q=2"], JSON),
        (["application/octet-stream;q=nan"], JSON),
        (["application/octet-stream;q=x, ;;,=,/"], JSON),
    ],
    ids=str,
)
def test_preferred(accept: list[str], expected: str) -> None:
    assert preferred(accept, OFFERS) == expected
