"""Deformation of all views and label maps of a patch around their common centre."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from monai.transforms import MapTransform, Randomizable

from ..slides import FieldOfView
from .deformations import Deformation, Warp
from .views import Views, as_pixels

# A warp is evaluated at every fourth pixel and is linear in between.
_STEP = 4


class RandDeformd(MapTransform, Randomizable):
    """Deform all views and label maps of a patch alike, resampling them once.

    Each deformation is applied with its own probability, in the order of the list. Images are extended by reflection;
    label maps become unlabelled where a view showed nothing.

    Args:
        keys: keys of images ``(3·S, H, W)`` with values from 0 to 255, finest view first. They become uint8.
        fields_of_view: the views, finest first.
        targets: fields of view of the label map's channels.
        deformations: what may be applied, such as :class:`Rotation` and :class:`ElasticWarp`.
        label_key: key of label maps ``(T, h, w)``, which an item need not have.

    Raises:
        ValueError: there is no deformation, or an item has more or fewer label maps than ``targets``.

    Example::

        views = [{"mpp": 0.5, "size": 512}, {"mpp": 2.0, "size": 512}]
        deform = RandDeformd("image", views, views[:1], [Rotation(degrees=45), Scaling(scale=(0.8, 1.25), prob=0.2)])
        item = deform({"image": np.zeros((6, 512, 512), np.uint8), "label": np.ones((1, 512, 512), np.uint8)})
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        targets: Views,
        deformations: Sequence[Deformation],
        label_key: str = "label",
    ) -> None:
        super().__init__(keys)
        if not deformations:
            raise ValueError("RandDeformd needs at least one deformation")
        self.views = [FieldOfView.from_config(view) for view in fields_of_view]
        self.targets = [FieldOfView.from_config(view) for view in targets]
        self.deformations, self.label_key = list(deformations), label_key
        self._streams: list[np.random.RandomState] = []

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandDeformd:
        """Seed the transform. Each of several deformations has a random state of its own, so that a change to one does
        not change what the others draw."""
        super().set_random_state(seed, state)
        if len(self.deformations) > 1:
            self._streams = [np.random.RandomState(int(self.R.randint(2**31))) for _ in self.deformations]
        return self

    def randomize(self, data: Any = None) -> None:
        """Do nothing: every call samples its deformations."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        warps = self._sample()
        if not warps:
            return result
        for key in self.key_iterator(result):
            image = np.asarray(result[key])
            views = [_deformed(image[3 * i : 3 * i + 3], view, warps) for i, view in enumerate(self.views)]
            result[key] = np.concatenate(views)
        if self.label_key in result:
            labels = np.asarray(result[self.label_key])
            if len(labels) != len(self.targets):
                raise ValueError(f"{len(labels)} label maps for {len(self.targets)} targets: set targets accordingly")
            maps = [_deformed_labels(labels[i], view, warps) for i, view in enumerate(self.targets)]
            result[self.label_key] = np.stack(maps)
        return result

    def split(self) -> list[RandDeformd]:
        """Return one transform for each deformation."""
        return [RandDeformd(self.keys, self.views, self.targets, [one], self.label_key) for one in self.deformations]

    def _sample(self) -> list[Warp]:
        streams = self._streams or [self.R] * len(self.deformations)
        extent = max(view.extent for view in self.views)
        pairs = zip(self.deformations, streams, strict=True)
        return [deformation.sample(rng, extent) for deformation, rng in pairs if rng.rand() < deformation.prob]


def _deformed(image: np.ndarray, view: FieldOfView, warps: Sequence[Warp]) -> np.ndarray:
    rows, columns = _sources(view, warps)
    pixels = cv2.remap(as_pixels(image), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return pixels.transpose(2, 0, 1)


def _deformed_labels(labels: np.ndarray, view: FieldOfView, warps: Sequence[Warp]) -> np.ndarray:
    rows, columns = _sources(view, warps)
    return cv2.remap(labels, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def _sources(view: FieldOfView, warps: Sequence[Warp]) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the column in a view from which each of its pixels is taken."""
    count = -(-view.size // _STEP) + 1
    offsets = ((np.arange(count) * _STEP + 0.5) - view.size / 2) * view.mpp
    coords = np.stack(np.meshgrid(offsets, offsets, indexing="ij"))
    # Backwards: what the last deformation shows at a place was brought there by those before it.
    for warp in reversed(warps):
        coords = warp(coords)
    sources = coords / view.mpp + view.size / 2 - 0.5
    nodes = np.arange(view.size) / _STEP
    weights = np.maximum(0, 1 - np.abs(nodes[:, None] - np.arange(count)[None]))
    rows, columns = (weights @ axis @ weights.T for axis in sources)
    return rows.astype(np.float32), columns.astype(np.float32)
