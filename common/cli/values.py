"""Parse the values of options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def listed(value: str | Sequence[str]) -> list[str]:
    """Return the values between commas; fire makes one string of some and a tuple of others."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else [str(part) for part in value]


def titled(runs: Sequence[str], usage: str) -> dict[str, str]:
    """Return folders by title, from TITLE=FOLDER or FOLDER.

    Raises:
        ValueError: there are none, or two have the same title.
    """
    if not runs:
        raise ValueError(f"name at least one run: multimag {usage}")
    folders: dict[str, str] = {}
    for run in runs:
        title, folder = run.split("=", 1) if "=" in run else (Path(run).name, run)
        if title in folders:
            raise ValueError(f"two runs are called {title}: {folders[title]} and {folder}. Name them as TITLE=FOLDER")
        folders[title] = folder
    return folders
