"""Make matplotlib figures without a display, and write them atomically."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of ``width`` by ``height`` inches.

    pyplot is not used: it would look for a display, and keep every figure until it is closed.
    """
    # Imported here, since it takes a second and most commands draw nothing.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path, dpi: int = 120) -> None:
    """Write a figure as PNG."""
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=dpi, format="png")
