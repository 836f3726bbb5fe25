"""Locations of slides and outputs: paths, and URLs that fsspec reads."""

from __future__ import annotations

import os
import re
import urllib.parse
from pathlib import Path
from typing import Any

import fsspec

EXTRA = 'pip install -e ".[cloud]"'
# Protocols whose files appear whole or not at all. With others, a file is written under another name and renamed.
_ATOMIC_PROTOCOLS = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"))
# Seconds without data after which a web server counts as stalled. A slide may take hours; aiohttp allows 300 s for all.
_STALL_TIMEOUT = 60.0
_WEB = re.compile(r"https?://", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@\s]*@")
_SIGNED = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*", re.IGNORECASE)


def is_url(location: str | Path) -> bool:
    """Return whether a location is a URL rather than a path."""
    return "://" in str(location)


def resolve_location(location: str | Path, folder: str = "") -> str:
    """Return a location as a URL or an absolute path.

    Args:
        location: path or URL; ``file://`` is read as a path.
        folder: path or URL that relative locations start from.

    Raises:
        ValueError: the URL is a chain, or contains a password.
    """
    text = str(location)
    if text.startswith("file://"):
        text = urllib.parse.unquote(urllib.parse.urlsplit(text).path)
    if is_url(text):
        if "::" in text:
            raise ValueError(f"{redact(text)}: a chain of URLs. Name the file's own")
        user = _USER.search(text)
        if user and ":" in user[0]:
            raise ValueError(
                f"{redact_url(text)}: a password in a URL. Leave it out: credentials come from the environment"
            )
        return text
    if is_url(folder) and not os.path.isabs(text):
        return f"{folder.rstrip('/')}/{text}"
    return os.path.abspath(os.path.join(folder, text))


def folder_of(location: str) -> str:
    """Return the folder of a file, from which relative paths in it start."""
    if not is_url(location):
        return str(Path(location).parent)
    return _without_query(location).rpartition("/")[0]


def name_of(location: str) -> str:
    """Return the name of a file."""
    if _WEB.match(location):
        return urllib.parse.unquote(_without_query(location).rpartition("/")[2])
    return location.rpartition("/")[2] if is_url(location) else Path(location).name


def redact_url(location: str) -> str:
    """Return a location without signature, user and password, fit to be shown and stored."""
    return _USER.sub("", _without_query(location)) if is_url(location) else location


def redact(text: str) -> str:
    """Return a message with every URL in it redacted: errors of libraries quote whole URLs."""
    return _USER.sub("", _SIGNED.sub(r"\1", text))


def _without_query(url: str) -> str:
    # In other URLs a question mark is an ordinary character.
    return url.partition("?")[0] if _WEB.match(url) else url


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec filesystem of a URL and the path in it. It finds credentials in the environment.

    Raises:
        ValueError: no installed library reads such URLs; the message names the extra to install.
    """
    try:
        # A cached listing would miss files that came or went since.
        return fsspec.core.url_to_fs(url, use_listings_cache=False, **(_web_options() if _WEB.match(url) else {}))
    except (ImportError, ValueError) as error:
        raise ValueError(f"{redact_url(url)}: cannot be reached ({error}). For s3, gs and https: {EXTRA}") from error


def _web_options() -> dict[str, Any]:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_STALL_TIMEOUT, sock_read=_STALL_TIMEOUT)
    return {"client_kwargs": {"timeout": timeout}}


def writes_atomically(url: str) -> bool:
    """Return whether a file written to a URL becomes visible only once it is whole."""
    return url.partition("://")[0].lower() in _ATOMIC_PROTOCOLS


def is_listable(url: str) -> bool:
    """Return whether a URL's files can be listed and written. Those of a web server cannot."""
    return not _WEB.match(url)
