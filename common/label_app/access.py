"""Decide which requests the server answers."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

# Environment variable with the token: on a command line, every account of the machine could read it.
TOKEN_VARIABLE = "MULTIMAG_LABEL_TOKEN"
HOSTS = ("127.0.0.1", "localhost")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,128}")
# Parts of MONAI Label that viewers need. Others fetch addresses, unpack uploads or open files by path.
_SERVED = frozenset(
    (
        *("info", "infer", "batch", "train", "activelearning", "scoring", "datastore", "model", "logs"),
        *("docs", "openapi.json", "static", "favicon.ico"),
    )
)


def checked_token(environment: Mapping[str, str]) -> str | None:
    """Return the token that requests must bring, or None if none is set.

    Raises:
        ValueError: the token is too short, or cannot be a part of an address.
    """
    token = environment.get(TOKEN_VARIABLE)
    if token and not _TOKEN.fullmatch(token):
        raise ValueError(f"{TOKEN_VARIABLE}: give 16 to 128 letters, digits, - or _")
    return token or None


def refusal(host: str | None, scheme: str, headers: Mapping[str, str]) -> str | None:
    """Return why a request is refused, or None if it is not.

    Requests of pages from other sites are refused: they could read slides and change annotations.

    Args:
        host: host that the request is for, without the port.
        scheme: ``http`` or ``https``.
        headers: headers of the request, by lower-case name.
    """
    origin = headers.get("origin")
    own = f"{scheme}://{headers.get('host', '')}"
    if host in HOSTS and origin in (None, own):
        return None
    return f"MONAI Label answers programs on this machine only, not {origin or own}"


def admitted(path: str, authorization: str | None, token: str | None) -> str | None:
    """Return the path that a request asks for, without the token; None if it must be refused.

    Args:
        path: path of the request. A viewer that sends no headers puts the token before it: ``/TOKEN/info/``.
        authorization: header of that name: ``Bearer TOKEN``.
        token: token that is required; None lets every request in.
    """
    if token is not None:
        kind, _, given = (authorization or "").partition(" ")
        first, _, rest = path.removeprefix("/").partition("/")
        if _same(first, token):
            path = f"/{rest}"
        elif kind.lower() != "bearer" or not _same(given.strip(), token):
            return None
    return path if path == "/" or path.removeprefix("/").partition("/")[0] in _SERVED else None


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
