"""List the slides in other styles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import write_json

_INDEX = "styled.json"
MADE = "made.json"


@dataclass(frozen=True)
class StyledSlide:
    """A slide's versions in other styles.

    Attributes:
        versions: paths of the versions.
        source_bytes: size of the slide's own files in bytes.
    """

    versions: Sequence[str]
    source_bytes: int


def note_styled_slides(folder: str | Path) -> None:
    """Write ``styled.json``: each slide's versions in a folder, collected from the ``made.json`` of every style.

    Raises:
        ValueError: two styles were made of different files of the same name.
    """
    folder = Path(folder)
    styled: dict[str, dict[str, Any]] = {}
    for record in sorted(folder.glob(f"*/{MADE}")):
        for name, source in json.loads(record.read_text(encoding="utf-8"))["slides"].items():
            known = styled.setdefault(name, {"source_bytes": source["bytes"], "versions": []})
            if known["source_bytes"] != source["bytes"]:
                raise ValueError(
                    f"{record}: its {name} was another file than in other styles there. Write styles of other slides "
                    "to another folder"
                )
            known["versions"].append(f"{record.parent.name}/{name}.tif")
    write_json(folder / _INDEX, styled)


def styled_slides(folder: str | Path) -> dict[str, StyledSlide]:
    """Return the versions of each slide in other styles, by the slide's name.

    Raises:
        ValueError: the folder has none.
    """
    folder = Path(folder)
    path = folder / _INDEX
    if not path.exists():
        raise ValueError(f"{path}: no styled slides. Make them with configs/style_transfer.yaml, or leave styled out")
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {name: _styled(folder, entry) for name, entry in entries.items()}


def _styled(folder: Path, entry: Mapping[str, Any]) -> StyledSlide:
    return StyledSlide([str(folder / part) for part in entry["versions"]], entry["source_bytes"])
