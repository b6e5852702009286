"""Which form of an answer a client likes best, by its Accept header (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["preferred"]


def preferred(accept: Sequence[str], offers: Sequence[str]) -> str:
    """The offer with the highest quality; of equal ones the first, and the first too if the client names none of them.

    So nobody gets a 406: RFC 9110 leaves that to the server, and a client that forgot to ask for JSON reads it all the
    same.

    Args:
        accept: the values of the request's Accept headers.
        offers: media types in lower case, the server's own choice first.
    """
    ranges = [_range(item) for value in accept for item in value.lower().split(",") if item.strip()]
    return max(offers, key=lambda offer: _quality(offer, ranges))  # the first of the best


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """What the most specific range that matches says; 0 without one."""
    qualities = dict(reversed(ranges))
    matching = (offer, f"{offer.partition('/')[0]}/*", "*/*")
    return next((qualities[name] for name in matching if name in qualities), 0.0)


def _range(item: str) -> tuple[str, float]:
    """`application/json; q=0.5` -> its name and quality; a quality that is none counts as 0."""
    name, *parameters = (part.strip() for part in item.split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return name, 0.0
            return name, quality if 0 <= quality <= 1 else 0.0
    return name, 1.0
