"""The inferer of ``inference.yaml``: whole slides, or tensors."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.engines.utils import PrepareBatch
from monai.inferers import Inferer
from torch import nn

from ..classes import ClassScheme
from ..networks.checkpoints import weights_digest
from ..outputs.polygon_options import PolygonOptions
from ..outputs.provenance import Provenance
from ..outputs.writer import check_outputs, maps_for
from ..slides import FieldOfView, PatchReader, RegionMask, Slide, TissueMask, tissue_mask
from .autocast import AutocastInferer
from .engine import Segmenter, SlideMaps
from .options import InferenceOptions
from .parts import adopt_part, pack_part
from .preprocessing import sample_pixels
from .slide_run import MadeMaps, OpenedSlide, SlideRun, slide_settings

logger = logging.getLogger(__name__)


class PrepareSlide(PrepareBatch):
    """The batch preparation of slides: passes a slide's datalist entry to the inferer unchanged."""

    def __call__(
        self, batchdata: dict[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[dict[str, Any], None]:
        return batchdata, None


class WholeSlideInferer(SlideRun, Inferer):
    """The inferer of whole slides: segments a slide and writes its outputs. For a tensor, it returns the logits.

    An interrupted slide resumes at its last finished block and ends with the same outputs; a finished one is skipped.
    A folder with the results of other settings is refused.

    Args:
        fields_of_view: what the network sees, finest first.
        target: what the network predicts.
        scheme: the classes.
        output_dir: each slide's outputs go to ``<output_dir>/<slide name>/``.
        outputs: names out of :data:`OUTPUTS`; ``summary.json``, which says how the others were made, is always written.
        preprocessing: MONAI transforms of ``{"image": (3·S, H, W)}``, each pixel by itself; None scales 0–255 to 0–1.
            Those that have ``fit_slide`` are first fitted to each slide.
        fill, resample, snap: see :class:`PatchReader`.
        tissue: predict only targets with tissue by Otsu's threshold; ``"pixels"``: and of these only pixels with
            tissue. On glass, a network that was never trained on it predicts any class.
        options: how the network is run over a slide; see :class:`InferenceOptions`.
        devices: where the network runs; by default on the device that it is on.
        overwrite: replace earlier results once the new ones are complete.
        provenance: bundle and weights that the summary names.
        only_regions: predict only the ``regions`` of a datalist entry that has them.
        polygons: how ``prediction.geojson`` is made; see :class:`PolygonOptions`.

    Raises:
        ValueError: an output or option does not exist.

    Example:
        >>> from common.inference import WholeSlideInferer
        >>> from common.networks import UNet
        >>> from common.phantom import BREAST
        >>> view = {"mpp": 2.0, "size": 128}
        >>> network = UNet(out_channels=7, channels=(4, 8))
        >>> inferer = WholeSlideInferer([view], view, BREAST.scheme, "segmented", outputs=["prediction.tif"])
        >>> summary = inferer({"image": "slide.tif"}, network)
        >>> sorted(summary["classes"])
        ['adipose', 'background', 'benign epithelial', 'carcinoma', 'necrotic', 'stroma']
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
        tissue: bool | str = False,
        options: InferenceOptions | Mapping[str, Any] | None = None,
        devices: Sequence[str | torch.device] | None = None,
        overwrite: bool = False,
        provenance: Provenance | None = None,
        only_regions: bool = False,
        polygons: PolygonOptions | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(output_dir, outputs, scheme, polygons, provenance, overwrite)
        self.reader = PatchReader(fields_of_view, fill, resample, snap)
        self.target = FieldOfView.from_config(target)
        if tissue not in (False, True, "pixels"):
            raise ValueError(f'tissue must be true, false or "pixels", not {tissue!r}')
        self.preprocessing, self.tissue, self.only_regions = preprocessing, tissue, only_regions
        self.options = options if isinstance(options, InferenceOptions) else InferenceOptions(**(options or {}))
        named = [devices] if isinstance(devices, str) else devices or ()
        self.devices = [torch.device(device) for device in named]
        self._forward = AutocastInferer(self.options.dtype)
        self._segmenters: dict[int, tuple[nn.Module, Segmenter]] = {}

    def __call__(
        self, inputs: torch.Tensor | Mapping[str, Any], network: Any, *args: Any, **kwargs: Any
    ) -> torch.Tensor | dict[str, Any]:
        if isinstance(inputs, torch.Tensor):
            return self._forward(inputs, network, *args, **kwargs)
        return self.attempt(inputs, lambda item: self.segment_slide(item, network))

    def segment_slide(self, item: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
        """Segment a slide, or resume it, and write its outputs. Return its summary.

        Args:
            item: the slide's datalist entry, with the ``name`` of its folder.
            network: the network.

        Raises:
            SlideError, SettingsError, FolderInUseError, OutputError: see :meth:`run_slide`.
        """
        return self.run_slide(item, partial(self._settings, item, network), partial(self._maps, network))

    def predict_part(self, item: Mapping[str, Any], network: nn.Module, part: tuple[int, int]) -> Path:
        """Predict one part of a slide's blocks, perhaps on another machine than :meth:`adopt_parts`. An interrupted
        part resumes.

        Args:
            item: the slide's datalist entry. Its ``name`` is a folder of this part alone, which the caller removes.
            network: the network.
            part: number of the part, from 0, and number of parts.

        Returns:
            A file of the finished blocks in that folder.

        Raises:
            SlideError, SettingsError, FolderInUseError, OutputError: see :meth:`segment_slide`.
        """
        with self.opened(item, partial(self._settings, item, network)) as opened:
            self._predicted(network, opened, self.outputs, part)
            opened.slide.check_unchanged()
            return pack_part(opened.folder.work, opened.folder.path / "part.zip")

    def adopt_parts(self, item: Mapping[str, Any], network: nn.Module, parts: Sequence[Path]) -> None:
        """Add the finished blocks of :meth:`predict_part` to the slide's folder, where :meth:`segment_slide` resumes.
        A finished slide is left unchanged.

        Raises:
            SlideError, FolderInUseError: see :meth:`segment_slide`.
            SettingsError: parts were made with other settings than each other or what the folder holds.
        """
        with self.opened(item, partial(self._settings, item, network)) as opened:
            if self.overwrite or opened.folder.summary(opened.settings) is None:
                for part in parts:
                    adopt_part(part, opened.folder.work, self.overwrite)

    def run_settings(self, network: nn.Module) -> dict[str, Any]:
        """Return the settings that the outputs of every slide depend on. Those of a slide add what preprocessing does
        to it."""
        return {
            "network": type(network).__name__,
            "weights": weights_digest(network),
            "fields_of_view": [asdict(view) for view in self.reader.fields_of_view],
            "target": asdict(self.target),
            "classes": [asdict(tissue_class) for tissue_class in self.scheme.classes],
            **self.scheme.decision_rule(),
            "fill": self.reader.fill,
            "resample": self.reader.resample,
            "snap": self.reader.snap,
            "tissue": self.tissue,
            "polygons": self.polygons.settings(self.scheme),
            **self.options.on(self._devices_of(network)[0]).output_settings(),
        }

    def _settings(self, item: Mapping[str, Any], network: nn.Module, slide: Slide) -> dict[str, Any]:
        """Return everything that a slide's outputs depend on. Fits the preprocessing to the slide first."""
        self._fit_preprocessing(slide)
        segmenter = self._segmenter(network)
        preprocessed = self._preprocess(sample_pixels(len(self.reader.fields_of_view)))
        regions = item.get("regions") if self.only_regions else None
        return {
            **slide_settings(slide),
            "preprocessing": hashlib.sha256(preprocessed.float().numpy().round(6).tobytes()).hexdigest(),
            **self.run_settings(segmenter.networks[0]),
            **({} if regions is None else {"regions": regions}),
        }

    def _maps(
        self, network: nn.Module, opened: OpenedSlide, outputs: tuple[str, ...]
    ) -> AbstractContextManager[MadeMaps]:
        found = self._predicted(network, opened, outputs)
        views = self.reader.effective_views(opened.slide)
        method = {
            "network": opened.settings["network"],
            "fields_of_view": [{"mpp": view.mpp, "size": view.size, "anchor": view.anchor} for view in views],
            "target": {"mpp": self.reader.effective_mpp(opened.slide, self.target.mpp), "size": self.target.size},
        }
        seconds = {"segmentation": found.seconds, "predicting": found.predicting}
        return nullcontext(MadeMaps(found.maps, found.grid, method, seconds))

    def _predicted(
        self, network: nn.Module, opened: OpenedSlide, outputs: tuple[str, ...], part: tuple[int, int] = (0, 1)
    ) -> SlideMaps:
        """Predict the maps that these outputs are made of, or a part of their blocks."""
        slide, segmenter, work = opened.slide, self._segmenter(network), opened.folder.work
        check_outputs(opened.folder.path, outputs, segmenter.grid(slide).shape, slide, self.polygons)
        tissue = tissue_mask(slide) if self.tissue else None
        mask: TissueMask | RegionMask | None = tissue
        pixelwise = self.tissue == "pixels"
        if "regions" in opened.settings:
            # Pixel by pixel, so that nothing next to a region is predicted.
            mask, pixelwise = RegionMask(opened.settings["regions"], tissue, pixelwise), True
        work.mkdir(exist_ok=True)
        return segmenter.segment(
            slide, work, opened.settings, maps_for(outputs), mask, self.overwrite, pixelwise=pixelwise, part=part
        )

    def _fit_preprocessing(self, slide: Slide) -> None:
        """Fit every transform that has ``fit_slide``, however deep it is nested."""
        waiting: list[Any] = [self.preprocessing]
        while waiting:
            transform = waiting.pop()
            waiting.extend(getattr(transform, "transforms", ()))
            if hasattr(transform, "fit_slide"):
                transform.fit_slide(slide)

    def _segmenter(self, network: nn.Module) -> Segmenter:
        """Return the segmenter of a network, made once: its copies of the network on further devices are kept."""
        known = self._segmenters.get(id(network))
        if known is None:
            devices = self._devices_of(network)
            segmenter = Segmenter(
                network, devices, self.reader, self.target, self.scheme, self.options, self._preprocess
            )
            logger.info("precision: %s on %s", segmenter.options.dtype, ", ".join(map(str, devices)))
            known = self._segmenters[id(network)] = (network, segmenter)
        return known[1]

    def _devices_of(self, network: nn.Module) -> list[torch.device]:
        return self.devices or [next(network.parameters()).device]

    def _preprocess(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.preprocessing is None:
            return pixels / 255
        # A plain tensor: MONAI's own kind costs time in every operation.
        return torch.as_tensor(self.preprocessing({"image": pixels})["image"]).as_subclass(torch.Tensor)
