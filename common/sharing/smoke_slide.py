"""Write a small synthetic slide that shows whether a bundle runs, not how good it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..files import write_json

_SIDE = 4  # targets
# Pixels of the slide's side: three times as many as the largest of this project's bundles needs.
_LONGEST = 2**13


def write_smoke_slide(folder: Path, views: Sequence[Mapping[str, Any]], target: Mapping[str, Any], labels: int) -> Path:
    """Write a slide, its label image, and a datalist that has it in every section.

    The slide is :data:`_SIDE` targets a side, each target of one class's colour and sprinkled with glass.

    Args:
        folder: folder to write to.
        views: the bundle's fields of view.
        target: size and µm/px of its output.
        labels: number of classes.

    Returns:
        the datalist.

    Raises:
        ValueError: the slide would be empty, or larger than memory should hold: a bundle may name any size.
    """
    draw = np.random.default_rng(0)
    fine = float(views[0]["mpp"])
    # Not rounded before it is known to be a number of pixels.
    side = float(target["size"]) * float(target["mpp"]) / fine if fine > 0 else 0.0
    if not 1 <= _SIDE * side <= _LONGEST or not 1 <= labels <= 255:
        raise ValueError(
            f"a slide of {_SIDE * side:g} pixels a side and {labels} classes cannot be made for the trial run. Name "
            f"sizes and µm/px whose target is at most {_LONGEST // _SIDE} pixels of the finest view"
        )
    step = round(side)
    cells = 1 + np.arange(_SIDE**2).reshape(_SIDE, _SIDE) % labels
    truth = np.kron(cells, np.ones((step, step), dtype=np.uint8)).astype(np.uint8)
    colors = draw.integers(70, 170, (labels + 1, 3), dtype=np.uint8)
    image = colors[truth] + draw.integers(0, 40, (*truth.shape, 3), dtype=np.uint8)
    image[draw.random(truth.shape) < 0.2] = 250
    Image.fromarray(image).save(folder / "slide.png")
    Image.fromarray(truth).save(folder / "labels.png")
    entry = {"image": "slide.png", "label": "labels.png", "mpp": fine}
    datalist = folder / "datalist.json"
    write_json(datalist, {section: [entry] for section in ("training", "validation", "testing")})
    return datalist
