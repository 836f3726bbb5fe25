"""Which slides there are in other styles."""

from __future__ import annotations

import json
from pathlib import Path

from ..files import write_json

_INDEX = "styled.json"


def note_styled_slides(folder: str | Path) -> None:
    """Write ``styled.json``: of every slide its versions ``<style>/<slide>.tif`` in a folder."""
    folder = Path(folder)
    styled: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*/*.tif")):
        styled.setdefault(path.stem, []).append(str(path.relative_to(folder)))
    write_json(folder / _INDEX, styled)


def styled_slides(folder: str | Path) -> dict[str, list[str]]:
    """Paths of the versions of every slide in other styles.

    Raises:
        ValueError: the folder has none.
    """
    folder = Path(folder)
    path = folder / _INDEX
    if not path.exists():
        raise ValueError(f"{path}: no styled slides. Make them with configs/style_transfer.yaml, or leave styled out")
    found = json.loads(path.read_text(encoding="utf-8"))
    return {name: [str(folder / part) for part in parts] for name, parts in found.items()}
