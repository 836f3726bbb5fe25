"""The inferer of ``inference.yaml``: whole slides, or tensors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.engines.utils import PrepareBatch
from monai.inferers import Inferer
from torch import nn

from ..classes import ClassScheme
from ..outputs.provenance import Provenance
from ..outputs.writer import OUTPUTS, write_outputs
from ..slides import FieldOfView, PatchReader, SlideError, open_slide, tissue_mask
from .autocast import AutocastInferer
from .engine import segment

logger = logging.getLogger(__name__)


class PrepareSlide(PrepareBatch):
    """Lets a slide's datalist entry pass to the inferer as it is."""

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[dict[str, Any], None]:
        return batchdata, None


class WholeSlideInferer(Inferer):
    """Given a slide, segments it and writes its outputs; given a tensor, runs the network on it.

    Args:
        fields_of_view: what the network sees, finest first.
        target: what it predicts.
        scheme: the classes.
        output_dir: each slide's outputs go to ``<output_dir>/<slide name>/``.
        outputs: which of ``prediction.tif``, ``prediction.geojson``, ``overlay.png``, ``summary.json``,
            ``prediction.nii.gz``.
        preprocessing: MONAI transforms of ``{"image": (3·S, H, W)}``; none scales 0–255 to 0–1.
        fill, resample, snap: see :class:`PatchReader`.
        tissue: predict only targets with tissue by Otsu's threshold.
        batch_size: patches per forward pass.
        block: targets a side that are read at once.
        dtype: precision of the forward pass: ``"float32"``, ``"bfloat16"``, ``"float16"``.
        provenance: what is written down about bundle and weights.
    """

    def __init__(
        self,
        fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
        target: FieldOfView | Mapping[str, Any],
        scheme: ClassScheme,
        output_dir: str | Path,
        outputs: Sequence[str] = ("prediction.tif", "prediction.geojson", "overlay.png", "summary.json"),
        preprocessing: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        fill: str = "white",
        resample: str = "area",
        snap: float = 0.03,
        tissue: bool = False,
        batch_size: int = 8,
        block: int = 8,
        dtype: str = "float32",
        provenance: Provenance | None = None,
    ) -> None:
        super().__init__()
        unknown = sorted(set(outputs) - set(OUTPUTS))
        if unknown:
            raise ValueError(f"no outputs {', '.join(unknown)}; there are {', '.join(OUTPUTS)}")
        self.reader = PatchReader(fields_of_view, fill, resample, snap)
        self.target, self.scheme = FieldOfView.of(target), scheme
        self.output_dir, self.outputs = Path(output_dir), tuple(outputs)
        self.preprocessing, self.tissue = preprocessing, tissue
        self.batch_size, self.block = batch_size, block
        self.provenance = provenance or Provenance()
        self._forward = AutocastInferer(dtype)
        self._done: list[Path] = []
        self._failed: dict[str, str] = {}

    def __call__(
        self, inputs: torch.Tensor | Mapping[str, Any], network: Any, *args: Any, **kwargs: Any
    ) -> torch.Tensor | dict[str, Any]:
        if isinstance(inputs, torch.Tensor):
            return self._forward(inputs, network, *args, **kwargs)
        try:
            return self._segment(inputs, network)
        except SlideError as error:
            logger.error("left out: %s", error)
            self._failed[str(inputs["image"])] = str(error)
            return {"image": inputs["image"], "error": str(error)}

    def finish(self) -> None:
        """Say where the outputs are, and leave with a non-zero exit code if a slide could not be segmented."""
        for folder in self._done:
            logger.info("segmented: %s", folder)
        if self._failed:
            listed = "\n".join(f"  {message}" for message in self._failed.values())
            total = len(self._done) + len(self._failed)
            raise SystemExit(f"{len(self._failed)} of {total} slides could not be segmented:\n{listed}")

    def _segment(self, item: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
        started = time.monotonic()
        with open_slide(item["image"], item.get("backend", "auto"), item.get("mpp")) as slide:
            folder = self.output_dir / item.get("name", slide.name)
            folder.mkdir(parents=True, exist_ok=True)
            device = next(network.parameters()).device
            tissue = tissue_mask(slide) if self.tissue else None
            network.eval()
            with torch.no_grad():
                canvas, plan = segment(
                    slide,
                    lambda batch: self._forward(batch, network),
                    self.reader,
                    self.target,
                    self.scheme,
                    folder / ".labels.zarr",
                    tissue=tissue,
                    batch_size=self.batch_size,
                    block=self.block,
                    device=device,
                    preprocess=self._preprocess,
                )
            try:
                record = self._record(slide, network, time.monotonic() - started, tissue is not None)
                summary = write_outputs(folder, self.outputs, slide, canvas, plan, self.scheme, record)
            finally:
                canvas.remove()
        self._done.append(folder)
        return {"image": item["image"], "output": str(folder), **summary}

    def _record(self, slide: Any, network: nn.Module, seconds: float, tissue: bool) -> dict[str, Any]:
        views = self.reader.actual(slide)
        return {
            "network": type(network).__name__,
            "fields_of_view": [{"mpp": view.mpp, "size": view.size, "anchor": view.anchor} for view in views],
            "target": {"mpp": self.reader.actual_mpp(slide, self.target.mpp), "size": self.target.size},
            "arguments": {
                "fill": self.reader.fill,
                "resample": self.reader.resample,
                "snap": self.reader.snap,
                "tissue": tissue,
                "batch_size": self.batch_size,
                "dtype": str(self._forward.dtype).removeprefix("torch."),
            },
            "seconds": {"segmentation": round(seconds, 2)},
            **self.provenance.record(),
        }

    def _preprocess(self, patch: np.ndarray) -> torch.Tensor:
        if self.preprocessing is None:
            return torch.from_numpy(patch.astype(np.float32) / 255)
        return torch.as_tensor(self.preprocessing({"image": patch})["image"])
