"""Segment slides."""

from __future__ import annotations

from typing import Any

from .values import listed


def segment(
    *slides: str,
    bundle: str | None = None,
    checkpoint: str | None = None,
    config: str | tuple[str, ...] = (),
    output: str = "output/segmented",
    **settings: Any,
) -> None:
    """Segment whole slides: label maps, polygons for QuPath, pictures and areas, a folder per slide.

    Without weights of your own, the demonstration's are used, which know only synthetic tissue. Rerun the same command
    to resume a run that was stopped.

    Args:
        slides: paths, globs or datalists.
        bundle: a bundle's name (dmmn, mrn, ...) or folder; by default the one that the checkpoint was trained with.
        checkpoint: the weights, as training writes them.
        config: overlays, separated by commas: names in the bundle's configs or paths; by default those that the
            checkpoint was trained with.
        output: folder for the results.
        settings: keys of the bundle's inference.yaml, such as --mpp 0.5, --tissue True, --context shared.
    """
    from ..bundle.job import run_inference

    run_inference(slides, bundle, checkpoint, listed(config), output, settings)
