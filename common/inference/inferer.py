"""The inferer of ``inference.yaml``: whole slides, or tensors."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from monai.engines.utils import PrepareBatch
from monai.inferers import Inferer
from torch import nn

from ..classes import ClassScheme
from ..files import PARTIAL, remove
from ..outputs.provenance import Provenance
from ..outputs.writer import OUTPUTS, maps_for, write_outputs
from ..slides import FieldOfView, PatchReader, Slide, SlideError, open_slide, tissue_mask
from .autocast import AutocastInferer
from .engine import Segmented, Segmenter
from .journal import SettingsError, check_same
from .options import Options

logger = logging.getLogger(__name__)

# In a slide's folder while it is being worked on.
_UNFINISHED, _LOCK = ".unfinished", ".lock"


class PrepareSlide(PrepareBatch):
    """Lets a slide's datalist entry pass to the inferer as it is."""

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[dict[str, Any], None]:
        return batchdata, None


class WholeSlideInferer(Inferer):
    """Given a slide, segments it and writes its outputs; given a tensor, runs the network on it.

    A slide that was stopped, however, goes on from its last finished block and ends with the same outputs; one that is
    finished is left as it is. A folder with the results of other settings is refused.

    Args:
        fields_of_view: what the network sees, finest first.
        target: what it predicts.
        scheme: the classes.
        output_dir: each slide's outputs go to ``<output_dir>/<slide name>/``.
        outputs: which of :data:`OUTPUTS`.
        preprocessing: MONAI transforms of ``{"image": (3·S, H, W)}``, each pixel by itself; none scales 0–255 to 0–1.
        fill, resample, snap: see :class:`PatchReader`.
        tissue: predict only targets with tissue by Otsu's threshold.
        options: how the network is run over a slide; see :class:`Options`.
        devices: where it runs; by default where it is.
        overwrite: begin anew where there are results already.
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
        options: Options | Mapping[str, Any] | None = None,
        devices: Sequence[str | torch.device] | None = None,
        overwrite: bool = False,
        provenance: Provenance | None = None,
    ) -> None:
        super().__init__()
        unknown = sorted(set(outputs) - set(OUTPUTS))
        if unknown:
            raise ValueError(f"no outputs {', '.join(unknown)}; there are {', '.join(OUTPUTS)}")
        self.reader = PatchReader(fields_of_view, fill, resample, snap)
        self.target, self.scheme = FieldOfView.of(target), scheme
        self.output_dir, self.outputs = Path(output_dir), tuple(outputs)
        self.preprocessing, self.tissue, self.overwrite = preprocessing, tissue, overwrite
        self.options = options if isinstance(options, Options) else Options(**(options or {}))
        self.devices = [torch.device(device) for device in devices or ()]
        self.provenance = provenance or Provenance()
        self._forward = AutocastInferer(self.options.dtype)
        self._segmenters: dict[int, tuple[nn.Module, Segmenter]] = {}
        self._done: list[Path] = []
        self._failed: dict[str, str] = {}

    def __call__(
        self, inputs: torch.Tensor | Mapping[str, Any], network: Any, *args: Any, **kwargs: Any
    ) -> torch.Tensor | dict[str, Any]:
        if isinstance(inputs, torch.Tensor):
            return self._forward(inputs, network, *args, **kwargs)
        try:
            return self._segment(inputs, network)
        except (SlideError, SettingsError) as error:
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
        segmenter = self._segmenter(network)
        with open_slide(item["image"], item.get("backend", "auto"), item.get("mpp")) as slide:
            folder = self.output_dir / item.get("name", slide.name)
            folder.mkdir(parents=True, exist_ok=True)
            settings = self._settings(slide, segmenter)
            with _alone_in(folder):
                summary = None if self.overwrite else self._finished(folder, settings)
                if summary is None:
                    summary = self._outputs(slide, folder, segmenter, settings)
                else:
                    logger.info("%s is segmented already; set overwrite to true to begin anew", folder)
        self._done.append(folder)
        return {"image": item["image"], "output": str(folder), **summary}

    def _outputs(self, slide: Slide, folder: Path, segmenter: Segmenter, settings: dict[str, Any]) -> dict[str, Any]:
        unfinished = folder / _UNFINISHED
        if self.overwrite:
            shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(exist_ok=True)
        tissue = tissue_mask(slide) if self.tissue else None
        try:
            found = segmenter.segment(slide, unfinished, settings, maps_for(self.outputs), tissue)
            record = self._record(slide, settings, found)
            summary = write_outputs(folder, self.outputs, slide, found.maps, found.plan, self.scheme, record)
        except SlideError:
            # Nothing to go on from: the slide itself has to change.
            shutil.rmtree(unfinished)
            raise
        shutil.rmtree(unfinished)
        return summary

    def _finished(self, folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
        """The summary of a finished slide; None if it is not, or if not all outputs asked for are there.

        Raises:
            SettingsError: it was made with other settings.
        """
        path = folder / "summary.json"
        if not path.exists():
            return None
        summary = json.loads(path.read_text(encoding="utf-8"))
        check_same(folder, summary["settings"], settings)
        return summary if all((folder / name).exists() for name in self.outputs) else None

    def _segmenter(self, network: nn.Module) -> Segmenter:
        """Made once per network: copies for further devices, and compiled functions, are kept."""
        known = self._segmenters.get(id(network))
        if known is None:
            devices = self.devices or [next(network.parameters()).device]
            segmenter = Segmenter(
                network, devices, self.reader, self.target, self.scheme, self.options, self._preprocess
            )
            known = self._segmenters[id(network)] = (network, segmenter)
        return known[1]

    def _settings(self, slide: Slide, segmenter: Segmenter) -> dict[str, Any]:
        """Everything that the outputs depend on."""
        file = slide.path.stat()
        views = len(self.reader.fields_of_view)
        ends = {name: torch.full((3 * views, 1, 1), value) for name, value in (("black", 0.0), ("white", 255.0))}
        return {
            "slide": {"file": slide.path.name, "bytes": file.st_size, "modified": file.st_mtime_ns},
            "mpp": slide.mpp,
            "backend": slide.backend,
            "network": type(segmenter.networks[0]).__name__,
            "weights": _weights_digest(segmenter.networks[0]),
            "fields_of_view": [asdict(view) for view in self.reader.fields_of_view],
            "target": asdict(self.target),
            "classes": [asdict(tissue) for tissue in self.scheme.classes],
            "threshold": self.scheme.threshold if self.scheme.activation == "sigmoid" else None,
            "preprocessing": {name: self._preprocess(value).flatten().tolist() for name, value in ends.items()},
            "fill": self.reader.fill,
            "resample": self.reader.resample,
            "snap": self.reader.snap,
            "tissue": self.tissue,
            "maps": list(maps_for(self.outputs)),
            **self.options.decisive(),
        }

    def _record(self, slide: Slide, settings: dict[str, Any], found: Segmented) -> dict[str, Any]:
        views = self.reader.actual(slide)
        return {
            "network": settings["network"],
            "fields_of_view": [{"mpp": view.mpp, "size": view.size, "anchor": view.anchor} for view in views],
            "target": {"mpp": self.reader.actual_mpp(slide, self.target.mpp), "size": self.target.size},
            "settings": settings,
            "seconds": {"segmentation": round(found.seconds, 2), "predicting": round(found.predicting, 2)},
            **self.provenance.record(),
        }

    def _preprocess(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.preprocessing is None:
            return pixels / 255
        return torch.as_tensor(self.preprocessing({"image": pixels})["image"])


@contextmanager
def _alone_in(folder: Path):
    """Keep other processes out of a slide's folder; the lock goes with the process that holds it."""
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SettingsError(
            f"{folder}: another process is at work here. Wait for it, or choose another output_dir"
        ) from error
    try:
        # What a killed run was writing.
        for left in folder.glob(f"{PARTIAL}*"):
            remove(left)
        yield
    finally:
        (folder / _LOCK).unlink(missing_ok=True)
        lock.release()


def _weights_digest(network: nn.Module) -> str:
    """SHA-256 over names and values of all weights."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
