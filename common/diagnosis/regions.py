"""Histograms of all regions of a datalist, from the label maps of any bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import shapely
from tqdm import tqdm

from ..annotations import LabelSource, PredictedLabels
from ..classes import ClassScheme
from ..data import SlideStore, output_name
from ..data.store import label_fingerprint
from ..evaluation.slide import segmented_regions
from ..files import sha256, write_json
from ..slides import Slide, pixel_fingerprint
from ..superpixels import Region, Superpixels, majority_labels, superpixels
from ..superpixels.segmentation import AREA_UM2
from .histograms import LabelHistograms

# Incremented when the meaning of a cached file changes.
_FORMAT = 1


@dataclass(frozen=True)
class LabelMaps:
    """Label maps of one model.

    Attributes:
        folder: the model's output folder, which holds ``<slide name>/prediction.tif``.
        name_by: column of the datalist that the slides' folders are named by; None: by the slides' files.
    """

    folder: Path
    name_by: str | None = None

    def path(self, item: Mapping[str, Any]) -> Path:
        """Return the path of the label map of an entry's slide.

        Raises:
            ValueError: there is no such file.
        """
        path = self.folder / output_name(item, self.name_by) / "prediction.tif"
        if not path.exists():
            raise ValueError(f"{path}: no such label map. Segment the slide with output_dir {self.folder} first")
        return path

    def weights(self, item: Mapping[str, Any]) -> str | None:
        """Return the SHA-256 of the weights that made an entry's label map; None if its summary does not say."""
        summary = self.path(item).with_name("summary.json")
        if not summary.exists():
            return None
        return json.loads(summary.read_text(encoding="utf-8")).get("weights", {}).get("sha256")


@dataclass(frozen=True)
class Division:
    """The division of regions into superpixels.

    Attributes:
        mpp: µm per pixel.
        area: area of a superpixel in µm².
        compactness: compactness of SLIC.
    """

    mpp: float = 0.25
    area: float = AREA_UM2
    compactness: float = 10.0

    def to_json(self) -> dict[str, float]:
        """Return the settings as JSON holds them."""
        return asdict(self)


def region_histograms(
    items: Sequence[Mapping[str, Any]],
    maps: Mapping[str, LabelMaps | ClassScheme],
    division: Division,
    cache_dir: str | Path,
) -> dict[str, list[LabelHistograms]]:
    """Divide every region once, and count the labels of its superpixels in each model's label map.

    Args:
        items: datalist entries, each a region: the ``regions`` (rectangles) of its slide, or else the whole slide.
        maps: title -> label maps, or a class scheme for the entries' own annotations.
        division: how regions are divided.
        cache_dir: folder in which counts are cached, from which an interrupted run resumes.

    Returns:
        title -> histograms, one per entry.

    Raises:
        ValueError: a label map is missing, or a model's label maps have different classes.
        SlideError, AnnotationError: a slide or label map cannot be read.
    """
    store = SlideStore()
    found: dict[str, list[LabelHistograms]] = {title: [] for title in maps}
    for item in tqdm(items, desc="superpixels", unit="region", delay=2):
        sources = {title: _Source.open(kind, item) for title, kind in maps.items()}
        kept = {title: Path(cache_dir) / f"{source.key(item, division)}.json" for title, source in sources.items()}
        missing = [title for title, path in kept.items() if not path.exists()]
        if missing:
            counted = _count(store.slide(item), item, [sources[title] for title in missing], division)
            for title, counts in zip(missing, counted, strict=True):
                write_json(kept[title], counts.to_json())
        for title, path in kept.items():
            found[title].append(LabelHistograms.from_json(json.loads(path.read_text(encoding="utf-8"))))
    for title, histograms in found.items():
        if len({one.names for one in histograms}) > 1:
            raise ValueError(f"label maps of {title} differ in their classes: {sorted({h.names for h in histograms})}")
    return found


@dataclass(frozen=True)
class _Source:
    """Labels of one entry, and a digest of what they depend on."""

    labels: LabelSource
    scheme: ClassScheme
    digest: str

    @classmethod
    def open(cls, kind: LabelMaps | ClassScheme, item: Mapping[str, Any]) -> _Source:
        if isinstance(kind, LabelMaps):
            path = kind.path(item)
            _check_segmented(path, item)
            labels = PredictedLabels(path)
            return cls(labels, labels.scheme, sha256(path))
        return cls(SlideStore(kind).labels(item), kind, json.dumps(label_fingerprint(item), sort_keys=True))

    def key(self, item: Mapping[str, Any], division: Division) -> str:
        """Return the name of the cached counts, which tells them from all others."""
        settings = [_FORMAT, *pixel_fingerprint(item), item.get("regions"), self.digest]
        text = json.dumps([*settings, self.scheme.names, division.to_json()], default=str)
        return f"{output_name(item)}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"

    def count(self, divided: Superpixels) -> LabelHistograms:
        labels = majority_labels(divided, self.labels, len(self.scheme))
        return LabelHistograms.count(divided, labels, self.scheme.names)


def _check_segmented(path: Path, item: Mapping[str, Any]) -> None:
    """Raise ValueError if an entry's regions are not among those that its label map covers."""
    segmented = segmented_regions(path)
    if segmented is None:
        return
    covered = shapely.union_all([_box(region) for region in segmented])
    for region in item.get("regions") or []:
        if not covered.buffer(1e-3).covers(_box(region)):
            raise ValueError(
                f"{path}: its region {region} was not segmented, only {segmented}. Segment the slide again"
            )
    if not item.get("regions"):
        raise ValueError(f"{path}: only the regions {segmented} were segmented, not the whole slide as asked for")


def _box(region: Sequence[float]) -> shapely.Geometry:
    top, left, height, width = region
    return shapely.box(left, top, left + width, top + height)


def _count(
    slide: Slide, item: Mapping[str, Any], sources: Sequence[_Source], division: Division
) -> list[LabelHistograms]:
    """Return the histograms of every source over all rectangles of an entry."""
    parts = []
    for rectangle in item.get("regions") or [None]:
        region = Region(slide, division.mpp, rectangle)
        divided = superpixels(region, division.area, division.compactness, progress=False)
        parts.append([source.count(divided) for source in sources])
    return [reduce(LabelHistograms.plus, of_source) for of_source in zip(*parts, strict=True)]
