"""MONAI Label's server for programs on this machine only, which refuses other sites' pages in a browser."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from fastapi import Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import PlainTextResponse, Response
from monailabel.app import app

from .access import admitted, checked_token, refusal
from .request_values import RequestError

_TOKEN = checked_token(os.environ)

# This middleware admits every page. Its setting for that cannot be used in MONAI Label 0.8.5, which fails to log it.
app.user_middleware = [one for one in app.user_middleware if one.cls is not CORSMiddleware]


@app.middleware("http")
async def refuse_others(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse requests of other sites' pages, and those that lack the token if there is one."""
    problem = refusal(request.url.hostname, request.url.scheme, request.headers)
    if problem is not None:
        return PlainTextResponse(problem, 403)
    path = admitted(request.scope["path"], request.headers.get("authorization"), _TOKEN)
    if path is None:
        return PlainTextResponse("The token is missing or wrong, or this part of MONAI Label is not served", 403)
    if path != request.scope["path"]:
        # Without the token, which would otherwise be in the log.
        request.scope["path"], request.scope["raw_path"] = path, quote(path).encode()
    return await go_on(request)


@app.exception_handler(RequestError)
async def say_why(request: Request, error: RequestError) -> Response:
    """Send the viewer the problem with its request."""
    return PlainTextResponse(str(error), 422)
