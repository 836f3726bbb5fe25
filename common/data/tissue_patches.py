"""Read patches of tissue of any class, annotated or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Compose

from ..classes import ClassScheme
from ..slides import FieldOfView, read_options
from . import LoadMultiMagnificationPatchd, MultiMagnificationPatchDataset, load_datalist, section_names

_TISSUE = ClassScheme([{"name": "tissue", "color": (0, 0, 0), "label": 1, "channel": 0}])
_UNANNOTATED = {"class": "tissue", "within": "tissue"}


def slide_entries(
    datalist: str | Path,
    columns: Mapping[str, Any] | None = None,
    sections: Sequence[str] = ("training", "unlabelled"),
) -> list[dict[str, Any]]:
    """Return the entries of a datalist with some values in their columns.

    Args:
        datalist: path of the datalist.
        columns: column -> value, such as ``{"scanner": "A"}``.
        sections: sections to search; missing ones are skipped.

    Raises:
        ValueError: no slide has these values.
    """
    existing = section_names(datalist)
    items = [
        item
        for section in sections
        if section in existing
        for item in load_datalist(datalist, section, require_label=False)
    ]
    values = {column: str(value) for column, value in (columns or {}).items()}
    selected = [item for item in items if all(str(item.get(column)) == value for column, value in values.items())]
    if not selected:
        lacking = ", ".join(f"{column} {value}" for column, value in values.items()) or "an entry"
        raise ValueError(f"{datalist}: no slide of {', '.join(sections)} has {lacking}")
    return selected


def tissue_patches(
    entries: Sequence[Mapping[str, Any]],
    fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
    fill: str = "white",
    resample: str = "area",
    cache_dir: str | Path | None = None,
) -> MultiMagnificationPatchDataset:
    """Return a dataset of adjacent patches of which more than half of the finest view is tissue by Otsu's threshold.

    Annotations and regions of the entries are ignored. An item is the entry's ``image``, ``(3·S, H, W)`` uint8, and
    ``slide``, its position.

    Raises:
        ValueError: there is no such patch.
    """
    views = [FieldOfView.from_config(view) for view in fields_of_view]
    data = [{"image": item["image"], **read_options(item), "unannotated": _UNANNOTATED} for item in entries]
    load = Compose([LoadMultiMagnificationPatchd("image", views, None, fill=fill, resample=resample)])
    return MultiMagnificationPatchDataset(data, _TISSUE, views, views[0], load, min_labelled=0.5, cache_dir=cache_dir)
