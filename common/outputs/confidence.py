"""Pictures of the probability of each class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..classes import ClassScheme
from ..files import atomic_write
from ..slides import Slide
from .overlay import overview
from .panels import panels

if TYPE_CHECKING:
    from ..maps.grid import TileGrid
    from ..maps.store import MapStore

_LONGEST_SIDE = 900
_STEPS = (64, 128, 191, 255)


def write_confidence(path: Path, slide: Slide, store: MapStore, grid: TileGrid, scheme: ClassScheme) -> None:
    """Write the slide and, next to it, a heat map of the probability of each class over the grey slide (the form of
    Modi et al. 2024, Fig. 1). Where a class is improbable or nothing was predicted, only the slide is visible.

    Args:
        path: path of the PNG file.
        slide: the slide.
        store: class probabilities ``(C, height, width)``, 255 for 1.
        grid: its tile grid on the slide.
        scheme: the classes.
    """
    tissue, probabilities, _ = overview(slide, store, grid, _LONGEST_SIDE)
    colors = heat_colors()
    grey = np.repeat(tissue.mean(axis=2, keepdims=True), 3, axis=2)
    pictures = {"slide": tissue}
    for tissue_class, probability in zip(scheme.classes, probabilities, strict=True):
        opacity = np.clip(probability[..., None] / 128, 0, 1) * 0.75
        blended = grey * (1 - opacity) + colors[probability] * opacity
        pictures[tissue_class.name] = np.round(blended).astype(np.uint8)
    entries = [
        {"name": f"probability {step / 255:.0%}", "color": tuple(colors[step].tolist()), "label": n, "channel": n - 1}
        for n, step in enumerate(_STEPS, start=1)
    ]
    with atomic_write(path) as partial:
        panels(pictures, ClassScheme(entries)).save(partial, format="PNG")


def heat_colors() -> np.ndarray:
    """Return ``(256, 3)`` uint8, from blue for 0 over yellow to dark red for 255."""
    from matplotlib import colormaps

    return (colormaps["turbo"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
