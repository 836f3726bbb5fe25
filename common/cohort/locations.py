"""Where slides and outputs lie: paths, and URLs that fsspec reads."""

from __future__ import annotations

import os
import re
import urllib.parse
from pathlib import Path
from typing import Any

import fsspec

EXTRA = 'pip install -e ".[cloud]"'
# A file that is put there is there whole or not at all; elsewhere it is written next to its name and renamed.
_WHOLE = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "memory"))
# Seconds after which a web server that sends nothing has stalled. A slide may take hours; aiohttp allows 300 s for all.
_STALLED = 60.0
_WEB = re.compile(r"https?://", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@\s]*@")
_SIGNED = re.compile(r"(https?://[^\s?'\"]*)\?[^\s'\"]*", re.IGNORECASE)


def is_url(location: str | Path) -> bool:
    """Whether a location is a URL and not a path."""
    return "://" in str(location)


def location_of(given: str | Path, folder: str = "") -> str:
    """A URL, or an absolute path; what is relative begins at ``folder`` (path or URL), ``file://`` is a path.

    Raises:
        ValueError: it has a password in it.
    """
    text = str(given)
    if text.startswith("file://"):
        text = urllib.parse.unquote(urllib.parse.urlsplit(text).path)
    if is_url(text):
        if "::" in text:
            raise ValueError(f"{redacted(text)}: a chain of URLs. Name the file's own")
        user = _USER.search(text)
        if user and ":" in user[0]:
            raise ValueError(f"{shown(text)}: a password in a URL. Leave it out: credentials come from the environment")
        return text
    if is_url(folder) and not os.path.isabs(text):
        return f"{folder.rstrip('/')}/{text}"
    return os.path.abspath(os.path.join(folder, text))


def folder_of(location: str) -> str:
    """What relative paths in a file begin at."""
    if not is_url(location):
        return str(Path(location).parent)
    return _unsigned(location).rpartition("/")[0]


def name_of(location: str) -> str:
    """The file's name."""
    if _WEB.match(location):
        return urllib.parse.unquote(_unsigned(location).rpartition("/")[2])
    return location.rpartition("/")[2] if is_url(location) else Path(location).name


def shown(location: str) -> str:
    """A location as it may be written down: without signature, user or password."""
    return _USER.sub("", _unsigned(location)) if is_url(location) else location


def redacted(text: str) -> str:
    """A message in which every URL is as it may be written down: what libraries raise has whole URLs in it."""
    return _USER.sub("", _SIGNED.sub(r"\1", text))


def _unsigned(url: str) -> str:
    # Elsewhere a question mark is a letter like others.
    return url.partition("?")[0] if _WEB.match(url) else url


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URL and the path in it. Credentials are what it finds in the environment.

    Raises:
        ValueError: nothing that is installed reads such URLs; names the extra.
    """
    try:
        # A listing from before a file came or went would be wrong.
        return fsspec.core.url_to_fs(url, use_listings_cache=False, **(_web_options() if _WEB.match(url) else {}))
    except (ImportError, ValueError) as error:
        raise ValueError(f"{shown(url)}: cannot be reached ({error}). For s3, gs and https: {EXTRA}") from error


def _web_options() -> dict[str, Any]:
    import aiohttp

    patience = aiohttp.ClientTimeout(total=None, sock_connect=_STALLED, sock_read=_STALLED)
    return {"client_kwargs": {"timeout": patience}}


def puts_whole(url: str) -> bool:
    """Whether what is put there appears under its name only when it is whole."""
    return url.partition("://")[0].lower() in _WHOLE


def lists_files(url: str) -> bool:
    """Whether it is a store of files that can be listed and written, and not a web server."""
    return not _WEB.match(url)
