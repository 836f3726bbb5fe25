"""MONAI Label's server for programs on this machine, and not for pages of other places that a browser shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import PlainTextResponse, Response
from monailabel.app import app

_HOSTS = ("127.0.0.1", "localhost")

# It lets every page in, and its setting for that cannot be used in 0.8.5: it fails to log it.
app.user_middleware = [one for one in app.user_middleware if one.cls is not CORSMiddleware]


@app.middleware("http")
async def refuse_other_pages(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answer no request that a page from elsewhere makes: it could read slides and change annotations."""
    origin = request.headers.get("origin")
    own = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if request.url.hostname not in _HOSTS or origin not in (None, own):
        return PlainTextResponse(f"MONAI Label answers programs on this machine only, not {origin or own}", 403)
    return await go_on(request)
