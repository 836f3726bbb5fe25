"""Patches of tissue, whatever it is and whether or not it is annotated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Compose

from ..classes import ClassScheme
from ..slides import FieldOfView, read_options
from . import LoadMultiMagnificationPatchd, MultiMagnificationPatchDataset, load_datalist, section_names

_TISSUE = ClassScheme([{"name": "tissue", "color": (0, 0, 0), "label": 1, "channel": 0}])
_BARE = {"class": "tissue", "within": "tissue"}


def slide_entries(
    datalist: str | Path,
    columns: Mapping[str, Any] | None = None,
    sections: Sequence[str] = ("training", "unlabelled"),
) -> list[dict[str, Any]]:
    """Entries of a datalist whose columns have some values.

    Args:
        datalist: its path.
        columns: column -> value, such as ``{"scanner": "A"}``.
        sections: where to look, as far as the datalist has them.

    Raises:
        ValueError: no slide has these values.
    """
    there = section_names(datalist)
    items = [
        item
        for section in sections
        if section in there
        for item in load_datalist(datalist, section, require_label=False)
    ]
    wanted = {column: str(value) for column, value in (columns or {}).items()}
    fitting = [item for item in items if all(str(item.get(column)) == value for column, value in wanted.items())]
    if not fitting:
        described = ", ".join(f"{column} {value}" for column, value in wanted.items()) or "an entry"
        raise ValueError(f"{datalist}: no slide of {', '.join(sections)} has {described}")
    return fitting


def tissue_patches(
    entries: Sequence[Mapping[str, Any]],
    fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
    fill: str = "white",
    resample: str = "area",
    cache_dir: str | Path | None = None,
) -> MultiMagnificationPatchDataset:
    """Patches of which at least half of the finest view is tissue by Otsu's threshold, side by side; annotations and
    regions of the entries do not matter.

    An item is the entry's ``image``, ``(3·S, H, W)`` uint8, and ``slide``, its position.

    Raises:
        ValueError: there is none.
    """
    views = [FieldOfView.from_config(view) for view in fields_of_view]
    data = [{"image": item["image"], **read_options(item), "unannotated": _BARE} for item in entries]
    load = Compose([LoadMultiMagnificationPatchd("image", views, None, fill=fill, resample=resample)])
    return MultiMagnificationPatchDataset(data, _TISSUE, views, views[0], load, min_labelled=0.5, cache_dir=cache_dir)
