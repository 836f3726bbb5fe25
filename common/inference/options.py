"""Options of whole-slide inference."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..renamed_keys import takes_old_names
from .precision import DTYPES, resolve_dtype

CONTEXTS = ("per_patch", "shared", "seamless")
TTA = ("none", "flips", "d4")


@takes_old_names
@dataclass(frozen=True)
class InferenceOptions:
    """Options of whole-slide inference.

    Attributes:
        context: ``"per_patch"``: each target is predicted from its own patch, as in the papers. ``"shared"``: the
            coarse branches run once per block, and all its targets take their context from there. ``"seamless"``: all
            branches run once over a block and a margin as wide as their receptive field, so no pixel sees a patch's
            border.
        overlap: overlap of neighbouring targets as a share of their side, from 0 to below 1. Overlapping predictions
            are averaged with Gaussian weights. The papers have 0.
        tta: test-time augmentation: average over four ``"flips"``, or over ``"d4"``, all eight flips and quarter
            turns of the input.
        batch_size: patches per forward pass.
        block: targets per side of a block, which is read, predicted and written at once.
        dtype: precision of the forward pass; ``"auto"`` is what the device computes natively (:func:`resolve_dtype`).
        compile: run the network through ``torch.compile``. Pipelines then start their passes one at a time.
        reader_threads: number of threads that read ahead.
        streams: pipelines per GPU, each in a stream of its own: one computes while another transfers its block. Each
            holds a block on the GPU. A CPU always has one pipeline.

    Raises:
        ValueError: an option is not one of these values, or ``"seamless"`` is combined with an overlap.
    """

    context: str = "per_patch"
    overlap: float = 0.0
    tta: str = "none"
    batch_size: int = 8
    block: int = 8
    dtype: str = "auto"
    compile: bool = False
    reader_threads: int = 2
    streams: int = 2

    def __post_init__(self) -> None:
        for name, known in (("context", CONTEXTS), ("tta", TTA), ("dtype", DTYPES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be a share from 0 to below 1, not {self.overlap}")
        for name in ("batch_size", "block", "reader_threads", "streams"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.context == "seamless" and self.overlap > 0:
            raise ValueError("seamless inference has no patch borders to blend: set overlap to 0")

    @property
    def blended(self) -> bool:
        """Return whether a pixel's prediction is an average."""
        return self.overlap > 0 or self.tta != "none"

    def on(self, device: torch.device) -> InferenceOptions:
        """Return these options with the precision of a device in place of ``"auto"``."""
        return replace(self, dtype=resolve_dtype(self.dtype, device))

    def output_settings(self) -> dict[str, Any]:
        """Return the options that affect the output: all but the numbers of reader threads and streams."""
        return {name: value for name, value in asdict(self).items() if name not in ("reader_threads", "streams")}
