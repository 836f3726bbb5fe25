"""Read and draw training curves from TensorBoard's files."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

from ...figures import new_figure

Curves = dict[str, list[tuple[int, float]]]


def training_curves(folder: Path) -> Curves:
    """Return every scalar that training wrote to a folder: name -> ``(step, value)``."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Curves = {}
    # A training and its validation write to separate files.
    for path in sorted(folder.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        for name in events.Tags()["scalars"]:
            found.setdefault(name, []).extend((one.step, one.value) for one in events.Scalars(name))
    return {name: sorted(values) for name, values in found.items()}


def plotted(curves: Mapping[str, list[tuple[int, float]]]) -> str:
    """Return a picture with one small plot per scalar, as a data URI."""
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = new_figure(4.2 * columns, 2.8 * rows)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, values) in zip(places, curves.items(), strict=False):
        steps, heights = zip(*values, strict=True)
        axes.plot(steps, heights, marker="o" if len(steps) < 40 else None, markersize=3)
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
    for axes in places[len(curves) :]:
        axes.remove()
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"
