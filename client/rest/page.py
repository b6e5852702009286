"""`GET /`: a page to try the service with, `page.html`. It needs no network but this service, and allows no other."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter, Request, Response

__all__ = ["router"]

_FILE = Path(__file__).with_name("page.html")


def router() -> APIRouter:
    """The route."""
    result = APIRouter(tags=["page"])
    content = _FILE.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "Content-Security-Policy": _policy(content.decode()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        # Kept, but asked about each time: a new version of the service may bring a new page.
        "Cache-Control": "no-cache",
        "ETag": etag,
    }

    @result.head("/", include_in_schema=False)
    @result.get(
        "/",
        summary="A page to try it",
        response_class=Response,
        responses={
            200: {"content": {"text/html": {}}},
            304: {"description": "The page that the caller has is this one"},
        },
    )
    async def page(request: Request) -> Response:
        """Type texts, see how alike they are, and the request that tells it."""
        known = request.headers.get("if-none-match", "")
        if known.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="text/html", headers=headers)

    return result


def _policy(content: str) -> str:
    """Allows the page's own style and script, by their hashes, requests to this service, and nothing else."""
    allowed = {
        "default-src": "'none'",
        "style-src": _hash_of("style", content),
        "script-src": _hash_of("script", content),
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        # No text can become markup, by no mistake of the script.
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in allowed.items())


def _hash_of(name: str, content: str) -> str:
    """The source expression for the page's one element of that name."""
    [found] = re.findall(f"<{name}>(.*?)</{name}>", content, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()}'"
