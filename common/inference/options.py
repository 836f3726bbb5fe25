"""How a network is run over a slide."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from .precision import DTYPES, resolve_dtype

CONTEXTS = ("per_patch", "shared", "seamless")
SYMMETRIES = ("none", "flips", "all")


@dataclass(frozen=True)
class InferenceOptions:
    """How a network is run over a slide.

    Attributes:
        context: ``"per_patch"``: every target from its own patch, as the papers do; ``"shared"``: the coarse branches
            run once over a block, and all its targets take their context from there; ``"seamless"``: all branches run
            once over a block and a margin as wide as they see, so that no pixel sees a patch's border.
        overlap: share of a target's side that its neighbour covers again; overlapping predictions are averaged with
            Gaussian weights. 0 is the papers' way.
        symmetries: average over ``"flips"`` (four) or ``"all"`` flips and quarter turns (eight) of what is seen.
        batch_size: patches per forward pass.
        block: targets a side that are read, predicted and written at once.
        dtype: precision of the forward pass; ``"auto"`` is what the device computes natively (:func:`resolve_dtype`).
        compile: whether ``torch.compile`` prepares the network first. Workers then start their passes in turn.
        readers: threads that read ahead.
        streams: workers per GPU, each in a stream of its own: one computes while another transfers its block. Each
            holds a block on the GPU. A CPU always has one worker.
    """

    context: str = "per_patch"
    overlap: float = 0.0
    symmetries: str = "none"
    batch_size: int = 8
    block: int = 8
    dtype: str = "auto"
    compile: bool = False
    readers: int = 2
    streams: int = 2

    def __post_init__(self) -> None:
        for name, known in (("context", CONTEXTS), ("symmetries", SYMMETRIES), ("dtype", DTYPES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be a share from 0 to below 1, not {self.overlap}")
        for name in ("batch_size", "block", "readers", "streams"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.context == "seamless" and self.overlap > 0:
            raise ValueError("seamless inference has no patch borders to blend: set overlap to 0")

    @property
    def blended(self) -> bool:
        """Whether a pixel's prediction is an average."""
        return self.overlap > 0 or self.symmetries != "none"

    def on(self, device: torch.device) -> InferenceOptions:
        """Return these options with the precision that a device runs in place of ``"auto"``."""
        return replace(self, dtype=resolve_dtype(self.dtype, device))

    def output_settings(self) -> dict[str, Any]:
        """Return the options that affect the output: all but the numbers of reader threads and streams."""
        return {name: value for name, value in asdict(self).items() if name not in ("readers", "streams")}
