"""The inferer of ``inference.yaml``: whole slides, or tensors."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from monai.engines.utils import PrepareBatch
from monai.inferers import Inferer
from torch import nn

from ..classes import ClassScheme
from ..errors import OutputError
from ..files import full_disk_named, inside, safe_name
from ..literal import as_path
from ..networks.checkpoints import weights_digest
from ..outputs.polygon_options import PolygonOptions
from ..outputs.provenance import Provenance
from ..outputs.writer import OUTPUTS, check_outputs, maps_for, write_outputs
from ..settings import SettingsError
from ..slides import (
    FieldOfView,
    PatchReader,
    RegionMask,
    Slide,
    SlideChangedError,
    SlideError,
    TissueMask,
    entry_name,
    open_entry,
    tissue_mask,
)
from .autocast import AutocastInferer
from .engine import Segmenter, SlideMaps, sample_pixels
from .folder import FolderInUseError, SlideFolder
from .options import InferenceOptions
from .parts import adopt_part, pack_part

logger = logging.getLogger(__name__)


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
        outputs: which of :data:`OUTPUTS`; ``summary.json`` is always written, it says what the others were made with.
        preprocessing: MONAI transforms of ``{"image": (3·S, H, W)}``, each pixel by itself; none scales 0–255 to 0–1.
            Those that have ``fit_slide`` are fitted to each slide first.
        fill, resample, snap: see :class:`PatchReader`.
        tissue: predict only targets with tissue by Otsu's threshold; ``"pixels"``: and of these only pixels with
            tissue. A network that was never shown glass says anything of it.
        options: how the network is run over a slide; see :class:`InferenceOptions`.
        devices: where it runs; by default where it is.
        overwrite: replace results that are there already, once the new ones are.
        provenance: what is written down about bundle and weights.
        only_regions: of a slide with ``regions`` in its datalist entry, predict only these.
        polygons: what ``prediction.geojson`` merges, simplifies and leaves out, and from where it counts; see
            :class:`PolygonOptions`.
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
        super().__init__()
        unknown = sorted(set(outputs) - set(OUTPUTS))
        if unknown:
            raise ValueError(f"no outputs {', '.join(unknown)}; there are {', '.join(OUTPUTS)}")
        self.reader = PatchReader(fields_of_view, fill, resample, snap)
        self.target, self.scheme = FieldOfView.from_config(target), scheme
        self.output_dir, self.outputs = Path(as_path(output_dir)), tuple(outputs)
        if tissue not in (False, True, "pixels"):
            raise ValueError(f'tissue must be true, false or "pixels", not {tissue!r}')
        self.preprocessing, self.tissue, self.overwrite = preprocessing, tissue, overwrite
        self.options = options if isinstance(options, InferenceOptions) else InferenceOptions(**(options or {}))
        named = [devices] if isinstance(devices, str) else devices or ()
        self.devices = [torch.device(device) for device in named]
        self.provenance = provenance or Provenance()
        self.only_regions = only_regions
        self.polygons = PolygonOptions.of(polygons)
        self.polygons.skipped(scheme)
        self._forward = AutocastInferer(self.options.dtype)
        self._segmenters: dict[int, tuple[nn.Module, Segmenter]] = {}
        self._done: list[Path] = []
        self._failed: list[str] = []

    def __call__(
        self, inputs: torch.Tensor | Mapping[str, Any], network: Any, *args: Any, **kwargs: Any
    ) -> torch.Tensor | dict[str, Any]:
        if isinstance(inputs, torch.Tensor):
            return self._forward(inputs, network, *args, **kwargs)
        try:
            return self.segment_slide(inputs, network)
        except (SlideError, SettingsError, FolderInUseError, OutputError) as error:
            return self._left_out(inputs, str(error))
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            remedy = "It is in the way of the outputs: move it, or choose another output folder"
            return self._left_out(inputs, f"{error.filename}: {error.strerror}. {remedy}")

    def _left_out(self, inputs: Mapping[str, Any], reason: str) -> dict[str, Any]:
        logger.error("left out: %s", reason)
        self._failed.append(reason)
        return {"image": inputs["image"], "error": reason}

    def finish(self) -> None:
        """Say where the outputs are, and leave with a non-zero exit code if a slide could not be segmented."""
        for folder in self._done:
            logger.info("segmented: %s", folder)
        if self._failed:
            listed = "\n".join(f"  {message}" for message in self._failed)
            total = len(self._done) + len(self._failed)
            raise SystemExit(f"{len(self._failed)} of {total} slides could not be segmented:\n{listed}")

    def segment_slide(self, item: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
        """Segment a slide, or what is left of it, and write its outputs; gives its summary with their folder as
        ``output``.

        Args:
            item: its datalist entry, with the ``name`` of its folder.
            network: the network.

        Raises:
            SlideError: it cannot be read correctly.
            SettingsError: its folder holds results of other settings.
            FolderInUseError: another process is at work there.
            OutputError: an output that is asked for cannot be made.
        """
        with self._opened(item, network) as (slide, segmenter, settings, folder):
            summary = None if self.overwrite else folder.summary(settings)
            missing = self.outputs if summary is None else folder.missing(self.outputs)
            if summary is None or missing:
                summary = self._make(slide, folder, segmenter, settings, missing, from_scratch=summary is None)
            else:
                logger.info("%s is segmented already; --overwrite True starts over", folder.path)
            folder.discard_unfinished()
        self._done.append(folder.path)
        return {"image": item["image"], "output": str(folder.path), **summary}

    def predict_part(self, item: Mapping[str, Any], network: nn.Module, part: tuple[int, int]) -> Path:
        """Predict one part, from 0 on, of so many of a slide's blocks, for :meth:`adopt_parts`, perhaps on another
        machine; what was stopped goes on. ``item`` names a folder of this part alone, which the caller removes.

        Returns:
            A file of the finished blocks in that folder.

        Raises:
            SlideError, SettingsError, FolderInUseError, OutputError: see :meth:`segment_slide`.
        """
        with self._opened(item, network) as (slide, segmenter, settings, folder):
            self._predicted(slide, folder, segmenter, settings, self.outputs, part)
            return pack_part(folder.unfinished, folder.path / "part.zip")

    def adopt_parts(self, item: Mapping[str, Any], network: nn.Module, parts: Sequence[Path]) -> None:
        """Take the finished blocks of :meth:`predict_part` over into the slide's folder, for :meth:`segment_slide` to
        go on from. A slide that is finished is left as it is.

        Raises:
            SlideError, FolderInUseError: see :meth:`segment_slide`.
            SettingsError: parts were made with other settings than each other or what the folder holds.
        """
        with self._opened(item, network) as (_, _, settings, folder):
            if self.overwrite or folder.summary(settings) is None:
                for part in parts:
                    adopt_part(part, folder.unfinished, self.overwrite)

    def general_settings(self, network: nn.Module) -> dict[str, Any]:
        """What the outputs of every slide depend on, but for what preprocessing makes of each."""
        return {
            "network": type(network).__name__,
            "weights": weights_digest(network),
            "fields_of_view": [asdict(view) for view in self.reader.fields_of_view],
            "target": asdict(self.target),
            "classes": [asdict(tissue) for tissue in self.scheme.classes],
            **self.scheme.decision(),
            "fill": self.reader.fill,
            "resample": self.reader.resample,
            "snap": self.reader.snap,
            "tissue": self.tissue,
            "polygons": self.polygons.settings(self.scheme),
            **self.options.on(self._devices_of(network)[0]).decisive(),
        }

    @contextmanager
    def _opened(
        self, item: Mapping[str, Any], network: nn.Module
    ) -> Iterator[tuple[Slide, Segmenter, dict[str, Any], SlideFolder]]:
        """A slide, what segments it, what its outputs depend on, and its folder, which is held."""
        name = item.get("name") or safe_name(entry_name(item))
        folder = SlideFolder(inside(self.output_dir, name))
        with open_entry(item) as slide:
            self._fit(slide)
            segmenter = self._segmenter(network)
            settings = self._settings(slide, segmenter)
            regions = item.get("regions") if self.only_regions else None
            if regions is not None:
                settings["regions"] = regions
            with full_disk_named(folder.path), folder.held(), _of_one_slide(slide, folder):
                yield slide, segmenter, settings, folder

    def _make(
        self,
        slide: Slide,
        folder: SlideFolder,
        segmenter: Segmenter,
        settings: dict[str, Any],
        outputs: tuple[str, ...],
        from_scratch: bool,
    ) -> dict[str, Any]:
        """Segment a slide and write these outputs. With ``from_scratch`` they replace all that are there."""
        found = self._predicted(slide, folder, segmenter, settings, outputs)
        record = self._record(slide, settings, found)
        maps, grid = found.maps, found.grid
        kept = None if from_scratch else folder.path
        with folder.written(replace=from_scratch) as staged:
            return write_outputs(staged, outputs, slide, maps, grid, self.scheme, record, self.polygons, kept)

    def _predicted(
        self,
        slide: Slide,
        folder: SlideFolder,
        segmenter: Segmenter,
        settings: dict[str, Any],
        outputs: tuple[str, ...],
        part: tuple[int, int] = (0, 1),
    ) -> SlideMaps:
        """The maps that these outputs are made of, or a part of them."""
        check_outputs(folder.path, outputs, segmenter.grid(slide).shape, slide, self.polygons)
        tissue = tissue_mask(slide) if self.tissue else None
        counted: TissueMask | RegionMask | None = tissue
        pixelwise = self.tissue == "pixels"
        if "regions" in settings:
            # Pixel by pixel, so that nothing next to a region is predicted.
            counted, pixelwise = RegionMask(settings["regions"], tissue, pixelwise), True
        folder.unfinished.mkdir(exist_ok=True)
        maps = maps_for(outputs)
        found = segmenter.segment(
            slide, folder.unfinished, settings, maps, counted, self.overwrite, pixelwise=pixelwise, part=part
        )
        slide.check_unchanged()
        return found

    def _fit(self, slide: Slide) -> None:
        waiting: list[Any] = [self.preprocessing]
        while waiting:
            transform = waiting.pop()
            waiting.extend(getattr(transform, "transforms", ()))
            if hasattr(transform, "fit_slide"):
                transform.fit_slide(slide)

    def _segmenter(self, network: nn.Module) -> Segmenter:
        """Made once per network: copies for further devices are kept."""
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

    def _settings(self, slide: Slide, segmenter: Segmenter) -> dict[str, Any]:
        """Everything that the outputs depend on."""
        preprocessed = self._preprocess(sample_pixels(len(self.reader.fields_of_view)))
        return {
            "slide": {"file": slide.path.name, "bytes": slide.files.state.size, "modified": slide.files.state.modified},
            "mpp": slide.mpp,
            "backend": slide.backend,
            **({} if slide.series is None else {"series": slide.series}),
            "preprocessing": hashlib.sha256(preprocessed.float().numpy().round(6).tobytes()).hexdigest(),
            **self.general_settings(segmenter.networks[0]),
        }

    def _record(self, slide: Slide, settings: dict[str, Any], found: SlideMaps) -> dict[str, Any]:
        views = self.reader.effective_views(slide)
        return {
            "network": settings["network"],
            "fields_of_view": [{"mpp": view.mpp, "size": view.size, "anchor": view.anchor} for view in views],
            "target": {"mpp": self.reader.effective_mpp(slide, self.target.mpp), "size": self.target.size},
            "settings": settings,
            "seconds": {"segmentation": round(found.seconds, 2), "predicting": round(found.predicting, 2)},
            **self.provenance.record(),
        }

    def _preprocess(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.preprocessing is None:
            return pixels / 255
        # A plain tensor: MONAI's own kind costs time in every operation.
        return torch.as_tensor(self.preprocessing({"image": pixels})["image"]).as_subclass(torch.Tensor)


@contextmanager
def _of_one_slide(slide: Slide, folder: SlideFolder) -> Iterator[None]:
    """Discard, within, the unfinished maps of a slide that changes: blocks of two slides must not be mixed.

    Pixels that cannot be decoded because the file is being written are no damage of the file.
    """
    try:
        yield
    except SlideError as error:
        change = error if isinstance(error, SlideChangedError) else slide.change()
        if change is None:
            raise
        folder.discard_unfinished()
        raise change from error
