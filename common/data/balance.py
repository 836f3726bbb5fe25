"""Balance classes by elastic deformation (Ho et al. 2021, section 2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ..classes import ClassScheme
from ..figures import new_figure, save_figure
from .index import PatchIndex


def balance_by_elastic_deformation(
    index: PatchIndex, elastic_copies: Mapping[str, int], class_priority: Sequence[str], seed: int = 0
) -> PatchIndex:
    """Add copies of the patches of rare classes, to be deformed elastically.

    A patch belongs to the first class of ``class_priority`` of which it has a pixel. It gets that class's number of
    copies, each with its own deformation.

    Args:
        index: the patches.
        elastic_copies: class -> copies per patch (r_c); 0 or absent for none.
        class_priority: classes by priority, the highest first; classes that are not in it come last and get no copies.
        seed: random seed of the deformations.

    Raises:
        ValueError: ``elastic_copies`` or ``class_priority`` names an unknown class, or a class has copies but no
            priority.
    """
    unknown = sorted((set(elastic_copies) | set(class_priority)) - set(index.class_names))
    if unknown:
        raise ValueError(f"balancing names no classes of the scheme: {', '.join(unknown)}")
    missing = [name for name, rate in elastic_copies.items() if rate and name not in class_priority]
    if missing:
        raise ValueError(f"classes with a rate but no place in class_priority: {', '.join(missing)}")
    rows = index.rows
    rate = np.zeros(len(rows), dtype=np.int64)
    open_rows = np.ones(len(rows), dtype=bool)
    for name in class_priority:
        here = open_rows & (rows[name].to_numpy() > 0)
        rate[here] = elastic_copies.get(name, 0)
        open_rows &= ~here
    copies = rows.iloc[np.repeat(np.arange(len(rows)), rate)].copy()
    copies["deformation"] = np.random.default_rng(seed).integers(0, 2**31, size=len(copies))
    return PatchIndex(pd.concat([rows, copies], ignore_index=True), index.class_names)


def plot_class_balance(before: PatchIndex, after: PatchIndex, scheme: ClassScheme, path: str | Path) -> None:
    """Plot the labelled pixels of each class before and after balancing (in the form of the paper's Figure 5)."""
    figure = new_figure(7, 3.6)
    axes = figure.subplots()
    places = np.arange(len(scheme))
    colors = [tuple(channel / 255 for channel in tissue_class.color) for tissue_class in scheme.classes]
    axes.bar(places - 0.2, before.pixels_per_class(), 0.38, color=colors, alpha=0.45, label="before")
    axes.bar(places + 0.2, after.pixels_per_class(), 0.38, color=colors, edgecolor="black", label="after")
    axes.set_xticks(places, scheme.names)
    axes.set_ylabel("labelled pixels")
    axes.set_title("Class balancing by elastic deformation (pale: before, framed: after)", fontsize=10)
    save_figure(figure, path)
