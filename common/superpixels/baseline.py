"""Segmentation without a network: superpixels, histograms and a support vector machine (SP-SVM)."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
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
from ..files import PARTIAL, sha256
from ..inference.slide_run import MadeMaps, OpenedSlide, SlideRun, slide_settings
from ..maps.grid import TileGrid
from ..maps.store import MapStore
from ..outputs.polygon_options import PolygonOptions
from ..outputs.provenance import Provenance
from ..outputs.writer import OUTPUTS, check_outputs, maps_for
from ..slides import Slide, pixel_fingerprint
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
    """SLIC superpixels, classified by a support vector machine on histograms of their colour and texture.

    Args:
        scheme: the classes.
        mpp: µm per pixel at which regions are read and divided.
        area: area of a superpixel in µm².
        compactness: compactness of SLIC.
        neighbourhoods: radii in µm; see :func:`superpixel_features`.
        per_label: most superpixels of each label that are sampled from each region.
        kernel: ``"linear"``, or ``"rbf"``, which is approximated with ``landmarks`` (Nyström) so that hundreds of
            thousands of superpixels can be fitted. The paper does not say which it has.
        landmarks: number of landmarks; see ``kernel``.
        penalty: C of the SVM.
        class_weight: ``"balanced"`` weights classes by the inverse of their number of superpixels; None, as the paper
            states no weights, weights all alike.
        seed: random seed of the samples, the landmarks and the SVM.

    Raises:
        ValueError: the kernel or ``class_weight`` is unknown.

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
        class_weight: str | None = None,
        seed: int = 0,
    ) -> None:
        if kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, not {kernel!r}")
        if class_weight not in (None, "balanced"):
            raise ValueError(f'class_weight must be null or "balanced", not {class_weight!r}')
        self.scheme, self.mpp, self.area, self.compactness = scheme, mpp, area, compactness
        self.neighbourhoods, self.per_label = tuple(neighbourhoods), per_label
        self.kernel, self.landmarks, self.penalty, self.seed = kernel, landmarks, penalty, seed
        self.class_weight = class_weight
        self._fitted: Pipeline | None = None

    def fit(self, data: Sequence[Mapping[str, Any]], path: str | Path) -> None:
        """Fit the SVM to annotated regions and write it. A model that was fitted to the same files with the same
        settings is kept.

        Args:
            data: datalist entries. Each of their ``regions`` is divided by itself; without them, the whole slide.
            path: path of the fitted model.

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
                sample = _sample(truth, self.per_label, random)
                features.append(superpixel_features(found, self.neighbourhoods, progress=False)[sample])
                labels.append(truth[sample])
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
        """Load a model that :meth:`fit` wrote.

        Raises:
            ValueError: the file is no such model, or was fitted with other settings.
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
        """Write the label maps of slides as inference.yaml does: a folder for each, finished slides are skipped.

        Args:
            slides: datalist entries with ``name``; of a slide with ``regions``, only these are segmented.
            output_dir: parent of the slides' folders.
            outputs: see :class:`SlideRun`; none of those of probabilities or entropy, which an SVM does not have.
            path: the fitted model.
            bundle_root: folder of the bundle that the summary names.
            overwrite: replace earlier results.
            polygons: see :class:`SlideRun`.

        Raises:
            ValueError: an output or polygon option does not exist, or an output needs probabilities.
            SystemExit: some slides could not be segmented; raised after the others are done, with the reason of each.
        """
        unknown = [name for name in outputs if name not in OUTPUTS or maps_for([name]) != ("labels",)]
        if unknown:
            possible = [name for name in OUTPUTS if maps_for([name]) == ("labels",)]
            raise ValueError(f"no outputs {', '.join(unknown)} of superpixels; there are {', '.join(possible)}")
        run = SlideRun(output_dir, outputs, self.scheme, polygons, Provenance(bundle_root, path), overwrite)
        self.load(path)
        settings = {**self._settings(), "model": sha256(path), "polygons": run.polygons.settings(self.scheme)}
        for entry in tqdm(merge_by_slide(slides), desc="segmenting", unit="slide"):
            run.attempt(entry, partial(self._segment, run, settings))
        run.finish()

    def predict(self, found: Superpixels) -> np.ndarray:
        """Return the label of each superpixel, ``(count,)`` uint8.

        Raises:
            ValueError: no model is fitted or loaded.
        """
        if self._fitted is None:
            raise ValueError("nothing is fitted: call fit or load before")
        features = superpixel_features(found, self.neighbourhoods, progress=False)
        return self._fitted.predict(features).astype(np.uint8)

    def _segment(self, run: SlideRun, settings: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
        regions = {"regions": item["regions"]} if item.get("regions") else {}

        def describe(slide: Slide) -> dict[str, Any]:
            return {**settings, **slide_settings(slide), **regions}

        return run.run_slide(item, describe, partial(self._maps, item, run.polygons))

    @contextmanager
    def _maps(
        self, item: Mapping[str, Any], polygons: PolygonOptions, opened: OpenedSlide, outputs: tuple[str, ...]
    ) -> Iterator[MadeMaps]:
        """Predict a slide's label map into a folder that is removed when the context ends."""
        started = time.monotonic()
        slide, folder = opened.slide, opened.folder.path
        mpp = Region(slide, self.mpp).mpp
        grid = TileGrid(slide.shape, slide.level0_pixels(mpp), _CHUNK, 1)
        check_outputs(folder, outputs, grid.shape, slide, polygons)
        with tempfile.TemporaryDirectory(dir=folder, prefix=PARTIAL) as scratch:
            labels_map = MapStore(Path(scratch) / "labels", grid.shape, _CHUNK)
            for found in self._divided(slide, item):
                self._paint(labels_map, found, self.predict(found))
            method = {"network": _KIND, "target": {"mpp": mpp, "size": _CHUNK}}
            yield MadeMaps({"labels": labels_map}, grid, method, {"segmentation": time.monotonic() - started})

    @staticmethod
    def _paint(labels_map: MapStore, found: Superpixels, predicted: np.ndarray) -> None:
        top, left = found.region.start
        for tile in found.region.tiles(_CHUNK):
            labels_map.write(top + tile.top, left + tile.left, predicted[found.labels[tile.slices]])

    def _divided(self, slide: Slide, item: Mapping[str, Any]) -> Iterator[Superpixels]:
        """Yield the superpixels of each region of an entry."""
        for rectangle in item.get("regions") or [None]:
            region = Region(slide, self.mpp, rectangle)
            yield superpixels(region, self.area, self.compactness, progress=False)

    def _pipeline(self, count: int) -> Pipeline:
        machine = LinearSVC(C=self.penalty, class_weight=self.class_weight, dual=False, random_state=self.seed)
        if self.kernel == "linear":
            return make_pipeline(StandardScaler(), machine)
        # As gamma="scale" of scikit-learn's SVC: one over the number of features, whose variance is 1.
        features = (1 + len(self.neighbourhoods)) * BINS
        kernel = Nystroem(gamma=1 / features, n_components=min(self.landmarks, count), random_state=self.seed)
        return make_pipeline(StandardScaler(), kernel, machine)

    def _learnt_from(self, data: Sequence[Mapping[str, Any]]) -> str:
        """Return a digest of everything that a fit depends on: files, how they are read, and all settings."""
        settings: list[Any] = [self._settings(), self.per_label, self.kernel, self.landmarks, self.penalty, self.seed]
        # Models of the previous version, which always balanced, are kept.
        if self.class_weight != "balanced":
            settings.append(self.class_weight)
        store = SlideStore(self.scheme)
        for item in data:
            # Their errors say what to do about a file that cannot be read.
            store.slide(item)
            store.labels(item)
            settings.append([*pixel_fingerprint(item), label_fingerprint(item)])
        return hashlib.sha256(json.dumps(settings, default=str).encode()).hexdigest()

    def _settings(self) -> dict[str, Any]:
        return {
            "asked mpp": self.mpp,
            "area": self.area,
            "compactness": self.compactness,
            "neighbourhoods": list(self.neighbourhoods),
            "classes": self.scheme.names,
        }


def _sample(labels: np.ndarray, per_label: int, random: np.random.Generator) -> np.ndarray:
    """Return indices of at most ``per_label`` superpixels of each label, in ascending order."""
    sample = [np.zeros(0, dtype=np.int64)]
    for label in np.unique(labels[labels > 0]):
        members = np.nonzero(labels == label)[0]
        sample.append(random.permutation(members)[:per_label])
    return np.sort(np.concatenate(sample))
