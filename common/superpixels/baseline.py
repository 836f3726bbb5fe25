"""Segmentation without a network: superpixels, histograms, a support vector machine (SP-SVM)."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.kernel_approximation import Nystroem
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from tqdm import tqdm

from ..classes import ClassScheme
from ..data import SlideStore, merge_by_slide
from ..data.store import label_fingerprint
from ..errors import OutputError
from ..files import inside, sha256
from ..inference.folder import FolderInUseError, SlideFolder
from ..literal import as_path
from ..maps.grid import TileGrid
from ..maps.store import MapStore
from ..outputs.polygon_options import PolygonOptions
from ..outputs.provenance import Provenance
from ..outputs.writer import OUTPUTS, check_outputs, maps_for, write_outputs
from ..settings import SettingsError
from ..slides import Slide, SlideError, pixel_fingerprint
from .estimators import load_fitted, save_fitted
from .features import BINS, NEIGHBOURHOODS, superpixel_features
from .labels import majority_labels
from .region import Region
from .segmentation import AREA_UM2, Superpixels, superpixels

logger = logging.getLogger(__name__)

KERNELS = ("linear", "rbf")
_KIND = "superpixel SVM"
_CHUNK = 1024


class SuperpixelSVM:
    """Superpixels by SLIC, told apart by a support vector machine on histograms of their colour and texture.

    Args:
        scheme: the classes.
        mpp: µm per pixel at which regions are divided and looked at.
        area: µm² of a superpixel.
        compactness: of SLIC.
        neighbourhoods: radii in µm; see :func:`superpixel_features`.
        per_label: superpixels of each label that are drawn from each region, at most.
        kernel: ``"linear"``, or ``"rbf"``, approximated by its ``landmarks`` (Nyström), so that hundreds of thousands
            of superpixels can be fitted. The paper does not say which.
        landmarks: see ``kernel``.
        penalty: C of the SVM.
        seed: of what is drawn.

    Raises:
        ValueError: an unknown kernel.

    Source: Mehta et al. 2018, section 6.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        mpp: float = 0.25,
        area: float = AREA_UM2,
        compactness: float = 10.0,
        neighbourhoods: Sequence[float] = NEIGHBOURHOODS,
        per_label: int = 2000,
        kernel: str = "rbf",
        landmarks: int = 300,
        penalty: float = 1.0,
        seed: int = 0,
    ) -> None:
        if kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, not {kernel!r}")
        self.scheme, self.mpp, self.area, self.compactness = scheme, mpp, area, compactness
        self.neighbourhoods, self.per_label = tuple(neighbourhoods), per_label
        self.kernel, self.landmarks, self.penalty, self.seed = kernel, landmarks, penalty, seed
        self._fitted: Pipeline | None = None

    def fit(self, data: Sequence[Mapping[str, Any]], path: str | Path) -> None:
        """Learn from annotated regions, and write what was learnt; what was learnt from the same files with the same
        settings before is kept.

        Args:
            data: datalist entries; ``regions`` are divided each by itself, without them the whole slide.
            path: of the fitted model.

        Raises:
            ValueError: fewer than two classes have a superpixel.
            SlideError, AnnotationError: a slide or annotation cannot be read.
        """
        learnt_from = self._learnt_from(data)
        if Path(path).exists() and load_fitted(path, _KIND)["learnt from"] == learnt_from:
            logger.info("fitted to these regions already: %s", path)
            return
        store, random = SlideStore(self.scheme), np.random.default_rng(self.seed)
        features, labels = [], []
        for item in tqdm(data, desc="superpixels to learn from", unit="slide"):
            for found in self._divided(store.slide(item), item):
                truth = majority_labels(found, store.labels(item), len(self.scheme))
                drawn = _drawn(truth, self.per_label, random)
                features.append(superpixel_features(found, self.neighbourhoods, progress=False)[drawn])
                labels.append(truth[drawn])
        x, y = np.concatenate(features), np.concatenate(labels)
        counts = {c.name: int((y == c.label).sum()) for c in self.scheme.classes}
        logger.info("superpixels learnt from: %s", ", ".join(f"{n} {name}" for name, n in counts.items()))
        if len(np.unique(y)) < 2:
            raise ValueError(f"superpixels of only one class, or none, to learn from: {counts}")
        self._fitted = self._pipeline(len(x)).fit(x, y)
        content = {"settings": self._settings(), "learnt from": learnt_from, "pipeline": self._fitted}
        save_fitted(path, {"kind": _KIND, **content})
        logger.info("fitted: %s", path)

    def load(self, path: str | Path) -> None:
        """Take what :meth:`fit` wrote.

        Raises:
            ValueError: it is no such file, or was fitted with other settings.
        """
        content = load_fitted(path, _KIND)
        for name, value in self._settings().items():
            if content["settings"].get(name) != value:
                raise ValueError(f"{path}: fitted with {name} {content['settings'].get(name)!r}, here it is {value!r}")
        self._fitted = content["pipeline"]

    def segment(
        self,
        slides: Sequence[Mapping[str, Any]],
        output_dir: str | Path,
        outputs: Sequence[str],
        path: str | Path,
        bundle_root: str | Path | None = None,
        overwrite: bool = False,
        polygons: PolygonOptions | Mapping[str, Any] | None = None,
    ) -> None:
        """Write the label maps of slides, as inference.yaml does: one folder each; those that are finished are left.

        Args:
            slides: datalist entries with ``name``; of a slide with ``regions``, only these are segmented.
            output_dir: where to.
            outputs: as of :class:`WholeSlideInferer`, but for probabilities and entropy, which there are none of.
            path: the fitted model.
            bundle_root: whose metadata the summary names.
            overwrite: replace what is there.
            polygons: as of :class:`WholeSlideInferer`.

        Raises:
            ValueError: an output that there is none of, or options of polygons.
            SystemExit: slides that could not be segmented, after the others are done; names them.
        """
        unknown = [name for name in outputs if name not in OUTPUTS or maps_for([name]) != ("labels",)]
        if unknown:
            made = [name for name in OUTPUTS if maps_for([name]) == ("labels",)]
            raise ValueError(f"no outputs {', '.join(unknown)} of superpixels; there are {', '.join(made)}")
        outlines = PolygonOptions.of(polygons)
        chosen = {"polygons": outlines.settings(self.scheme)}
        self.load(path)
        failed: list[str] = []
        store, provenance = SlideStore(), Provenance(bundle_root, path)
        for item in tqdm(merge_by_slide(slides), desc="segmenting", unit="slide"):
            try:
                slide = store.slide(item)
                settings = {**self._settings(), "model": sha256(path), **chosen, **_of_slide(slide, item)}
                folder = SlideFolder(inside(as_path(output_dir), item["name"]))
                with folder.held():
                    from_scratch = overwrite or folder.summary(settings) is None
                    missing = tuple(outputs) if from_scratch else folder.missing(tuple(outputs))
                    if missing:
                        self._segment(slide, item, folder, missing, settings, provenance, outlines, from_scratch)
            except (SlideError, SettingsError, FolderInUseError, OutputError) as error:
                logger.error("left out: %s", error)
                failed.append(str(error))
        logger.info("segmented: %s", output_dir)
        if failed:
            raise SystemExit(f"{len(failed)} slides could not be segmented:\n" + "\n".join(failed))

    def predict(self, found: Superpixels) -> np.ndarray:
        """The label of each superpixel, ``(count,)`` uint8."""
        if self._fitted is None:
            raise ValueError("nothing is fitted: call fit or load before")
        features = superpixel_features(found, self.neighbourhoods, progress=False)
        return self._fitted.predict(features).astype(np.uint8)

    def _segment(
        self,
        slide: Slide,
        item: Mapping[str, Any],
        folder: SlideFolder,
        outputs: tuple[str, ...],
        settings: dict[str, Any],
        provenance: Provenance,
        polygons: PolygonOptions,
        from_scratch: bool,
    ) -> None:
        started = time.monotonic()
        whole = Region(slide, self.mpp)
        grid = TileGrid(slide.shape, slide.level0_pixels(whole.mpp), _CHUNK, 1)
        check_outputs(folder.path, outputs, grid.shape, slide, polygons)
        with tempfile.TemporaryDirectory(dir=folder.path, prefix=".partial-") as scratch:
            labels_map = MapStore(Path(scratch) / "labels", grid.shape, _CHUNK)
            for found in self._divided(slide, item):
                self._paint(labels_map, found, self.predict(found))
            record = {
                "network": _KIND,
                "target": {"mpp": whole.mpp, "size": _CHUNK},
                "settings": settings,
                "seconds": {"segmentation": round(time.monotonic() - started, 2)},
                **provenance.record(),
            }
            slide.check_unchanged()
            maps, kept = {"labels": labels_map}, None if from_scratch else folder.path
            with folder.written(replace=from_scratch) as staged:
                write_outputs(staged, outputs, slide, maps, grid, self.scheme, record, polygons, kept)

    @staticmethod
    def _paint(labels_map: MapStore, found: Superpixels, predicted: np.ndarray) -> None:
        top, left = found.region.start
        for tile in found.region.tiles(_CHUNK):
            labels_map.write(top + tile.top, left + tile.left, predicted[found.labels[tile.slices]])

    def _divided(self, slide: Slide, item: Mapping[str, Any]):
        """Superpixels of each region of an entry."""
        for rectangle in item.get("regions") or [None]:
            region = Region(slide, self.mpp, rectangle)
            yield superpixels(region, self.area, self.compactness, progress=False)

    def _pipeline(self, count: int) -> Pipeline:
        machine = LinearSVC(C=self.penalty, class_weight="balanced", dual=False, random_state=self.seed)
        if self.kernel == "linear":
            return make_pipeline(StandardScaler(), machine)
        # gamma="scale" of scikit-learn's SVC: one over the number of features, whose variance is 1.
        features = (1 + len(self.neighbourhoods)) * BINS
        kernel = Nystroem(gamma=1 / features, n_components=min(self.landmarks, count), random_state=self.seed)
        return make_pipeline(StandardScaler(), kernel, machine)

    def _learnt_from(self, data: Sequence[Mapping[str, Any]]) -> str:
        """Tells one fit from another: files, how they are read, and everything that is set."""
        described: list[Any] = [self._settings(), self.per_label, self.kernel, self.landmarks, self.penalty, self.seed]
        store = SlideStore(self.scheme)
        for item in data:
            # Of a file that cannot be read, these say what to do.
            store.slide(item)
            store.labels(item)
            described.append([*pixel_fingerprint(item), label_fingerprint(item)])
        return hashlib.sha256(json.dumps(described, default=str).encode()).hexdigest()

    def _settings(self) -> dict[str, Any]:
        return {
            "asked mpp": self.mpp,
            "area": self.area,
            "compactness": self.compactness,
            "neighbourhoods": list(self.neighbourhoods),
            "classes": self.scheme.names,
        }


def _of_slide(slide: Slide, item: Mapping[str, Any]) -> dict[str, Any]:
    """What of a slide its outputs depend on."""
    return {
        "slide": {"file": slide.path.name, "bytes": slide.files.state.size, "modified": slide.files.state.modified},
        "mpp": slide.mpp,
        "backend": slide.backend,
        **({} if slide.series is None else {"series": slide.series}),
        **({"regions": item["regions"]} if item.get("regions") else {}),
    }


def _drawn(labels: np.ndarray, per_label: int, random: np.random.Generator) -> np.ndarray:
    """Numbers of superpixels to learn from: so many of each label, at most."""
    drawn = [np.zeros(0, dtype=np.int64)]
    for label in np.unique(labels[labels > 0]):
        members = np.nonzero(labels == label)[0]
        drawn.append(random.permutation(members)[:per_label])
    return np.sort(np.concatenate(drawn))
