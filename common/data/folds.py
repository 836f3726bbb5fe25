"""Write datalists for cross-validation, in which no case is both trained on and tested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from ..files import write_json
from .datalist import load_sections, standard_sections
from .folders import relative_path, split_by_group


def write_folds(
    datalist: str | Path,
    out: str | Path,
    folds: int = 5,
    by: str = "case",
    stratify_by: str | None = None,
    validation: float = 0.2,
    seed: int = 0,
) -> list[Path]:
    """Write a datalist per fold. Each entry is tested in one fold, and its case is not trained on there.

    Args:
        datalist: datalist whose entries are assigned, from all sections; several may be regions of one slide or case.
        out: folder for ``fold_1.json`` and so on.
        folds: number of folds.
        by: column whose entries stay together: case, patient, …
        stratify_by: column, such as the diagnosis, whose values are spread evenly over the folds.
        validation: share of the entries outside the test fold for validation, divided by the same column.
        seed: random seed of the assignment.

    Returns:
        The paths of the datalists.

    Raises:
        ValueError: an entry lacks a column, or there are fewer cases than folds.
    """
    entries = load_sections(datalist, standard_sections(datalist))
    groups, values = _column(entries, by), None if stratify_by is None else _column(entries, stratify_by)
    if len(set(groups)) < folds:
        raise ValueError(f"{datalist}: {len(set(groups))} values of {by!r} cannot be divided into {folds} folds")
    splitter: Any = GroupKFold(folds, shuffle=True, random_state=seed)
    if values is not None:
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    paths = []
    for number, (rest, test) in enumerate(splitter.split(np.zeros(len(groups)), values, groups), start=1):
        shares = {"training": 1 - validation, "validation": validation}
        assigned = split_by_group([groups[i] for i in rest], shares, seed)
        content: dict[str, list[dict[str, Any]]] = {section: [] for section in ("training", "validation", "testing")}
        path = Path(out) / f"fold_{number}.json"
        for section, i in [*zip(assigned, rest, strict=True), *(("testing", i) for i in test)]:
            content[section].append(_moved(entries[i], path))
        write_json(path, content)
        paths.append(path)
    return paths


def _column(entries: Sequence[dict[str, Any]], name: str) -> list[str]:
    missing = [entry["image"] for entry in entries if entry.get(name) is None]
    if missing:
        raise ValueError(f"{missing[0]}: its datalist entry has no column {name!r}")
    return [str(entry[name]) for entry in entries]


def _moved(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return an entry with its paths relative to the datalist at ``path``."""
    paths: dict[str, Any] = {key: relative_path(Path(entry[key]), path) for key in ("image", "label") if key in entry}
    return {**entry, **paths}
