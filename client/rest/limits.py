"""What one request may hold beside its bytes, which `body` bounds while they come in."""

from __future__ import annotations

from collections.abc import Sequence

from client import InvalidInput
from client.rest.settings import Settings

__all__ = ["check_texts"]


def check_texts(texts: Sequence[str], settings: Settings, field: str) -> None:
    """Check a request's texts against the limits in GET /info.

    Args:
        texts: of the whole request.
        settings: with the limits.
        field: what the caller calls the texts.

    Raises:
        InvalidInput: which limit, and what came.
    """
    if len(texts) > settings.max_texts:
        raise InvalidInput(f"{field}: wanted at most {settings.max_texts}, got {len(texts)}", field=field)
    for index, text in enumerate(texts):
        if len(text) > settings.max_text_characters:
            wanted = f"wanted at most {settings.max_text_characters} characters"
            raise InvalidInput(f"{field}[{index}]: {wanted}, got {len(text)}", field=field)
