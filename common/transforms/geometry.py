"""Tissue turned, stretched and bent around the patch's centre: the same in every view and label map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from scipy import ndimage

from ..slides import FieldOfView
from .views import as_pixels, floats

# Places ``(2, …)`` in µm from the centre (down, across) -> where what is shown there was before.
Deformation = Callable[[np.ndarray], np.ndarray]
Views = Sequence[FieldOfView | Mapping[str, Any]]
# Pixels from one place at which a deformation is worked out to the next; it is linear between them.
_STEP = 4


class RandDeformd(RandomizableTransform, MapTransform, ABC):
    """Base of geometric transforms.

    What a view did not show before is filled by reflection, and in label maps unlabelled.

    Args:
        keys: images ``(3·S, H, W)`` of values from 0 to 255, finest view first. They become uint8.
        fields_of_view: the views, finest first.
        targets: of the label map's channels.
        prob: of doing anything.
        label_key: of label maps ``(T, h, w)``.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        targets: Views,
        prob: float = 0.5,
        label_key: str = "label",
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.views = [FieldOfView.from_config(view) for view in fields_of_view]
        self.targets = [FieldOfView.from_config(view) for view in targets]
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        deformation = self.drawn()
        if deformation is None:
            return result
        for key in self.key_iterator(result):
            image = np.asarray(result[key])
            views = [_warped(image[3 * i : 3 * i + 3], view, deformation) for i, view in enumerate(self.views)]
            result[key] = np.concatenate(views)
        if self.label_key in result:
            labels = np.asarray(result[self.label_key])
            if len(labels) != len(self.targets):
                raise ValueError(f"{len(labels)} label maps for {len(self.targets)} targets: set targets accordingly")
            maps = [_warped_labels(labels[i], view, deformation) for i, view in enumerate(self.targets)]
            result[self.label_key] = np.stack(maps)
        return result

    def drawn(self) -> Deformation | None:
        """A deformation, or None with the probability of doing nothing."""
        self.randomize(None)
        return self.deformation() if self._do_transform else None

    @abstractmethod
    def deformation(self) -> Deformation:
        """A random one."""


class DeformOnced(MapTransform, Randomizable):
    """Several geometric transforms, one after the other, in a single resampling.

    Args:
        transforms: of the same keys, views and targets.
    """

    def __init__(self, transforms: Sequence[RandDeformd]) -> None:
        if not transforms:
            raise ValueError("DeformOnced needs at least one geometric transform")
        super().__init__(transforms[0].keys)
        self.transforms = list(transforms)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> DeformOnced:
        super().set_random_state(seed, state)
        for transform in self.transforms:
            transform.set_random_state(seed=int(self.R.randint(2**31)))
        return self

    def randomize(self, data: Any = None) -> None:
        """Each transform draws for itself."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        drawn = [deformation for transform in self.transforms if (deformation := transform.drawn()) is not None]
        if not drawn:
            return dict(data)
        return _Chain(self.transforms[0], drawn)(data)


class _Chain(RandDeformd):
    """Deformations that were drawn already, as one: what the last one moves was put there by those before."""

    def __init__(self, like: RandDeformd, drawn: Sequence[Deformation]) -> None:
        super().__init__(like.keys, like.views, like.targets, 1.0, like.label_key)
        self._drawn = drawn

    def deformation(self) -> Deformation:
        def chained(places: np.ndarray) -> np.ndarray:
            for deformation in reversed(self._drawn):
                places = deformation(places)
            return places

        return chained


class RandRotated(RandDeformd):
    """Turn by up to ``degrees`` either way."""

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        targets: Views,
        prob: float = 0.5,
        degrees: float = 180.0,
        label_key: str = "label",
    ) -> None:
        super().__init__(keys, fields_of_view, targets, prob, label_key)
        self.degrees = degrees

    def deformation(self) -> Deformation:
        angle = np.deg2rad(self.R.uniform(-self.degrees, self.degrees))
        return _linear(np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]))


class RandSheard(RandDeformd):
    """Shear along either axis, by up to ``shear`` µm per µm."""

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        targets: Views,
        prob: float = 0.5,
        shear: float = 0.2,
        label_key: str = "label",
    ) -> None:
        super().__init__(keys, fields_of_view, targets, prob, label_key)
        self.shear = shear

    def deformation(self) -> Deformation:
        amount, down = self.R.uniform(-self.shear, self.shear), self.R.random() < 0.5
        return _linear(np.array([[1.0, amount if down else 0.0], [0.0 if down else amount, 1.0]]))


class RandRescaled(RandDeformd):
    """Enlarge by a factor between those of ``scale``, drawn evenly on a logarithmic scale."""

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        targets: Views,
        prob: float = 0.5,
        scale: Sequence[float] = (0.8, 1.25),
        label_key: str = "label",
    ) -> None:
        super().__init__(keys, fields_of_view, targets, prob, label_key)
        self.scale = floats(scale, "scale", 1e-3)

    def deformation(self) -> Deformation:
        return _linear(np.eye(2) / np.exp(self.R.uniform(*np.log(self.scale))))


class RandShifted(RandDeformd):
    """Move by up to ``shift`` µm down or up, and left or right."""

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        targets: Views,
        prob: float = 0.5,
        shift: float = 20.0,
        label_key: str = "label",
    ) -> None:
        super().__init__(keys, fields_of_view, targets, prob, label_key)
        self.shift = shift

    def deformation(self) -> Deformation:
        by = self.R.uniform(-self.shift, self.shift, 2)
        return lambda places: places - by.reshape(2, *[1] * (places.ndim - 1))


class RandElasticd(RandDeformd):
    """Points of a grid are displaced at random, the tissue between them bends (cubic splines).

    Args:
        keys, fields_of_view, targets, prob, label_key: as :class:`RandDeformd`.
        spacing: µm between the points.
        sigma: smallest and largest standard deviation of the displacement in µm.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        targets: Views,
        prob: float = 0.5,
        spacing: float = 32.0,
        sigma: Sequence[float] = (1.0, 5.0),
        label_key: str = "label",
    ) -> None:
        super().__init__(keys, fields_of_view, targets, prob, label_key)
        self.spacing, self.sigma = spacing, floats(sigma, "sigma", 0)

    def deformation(self) -> Deformation:
        half = int(np.ceil(_widest(self.views) / 2 / self.spacing)) + 3
        nodes = self.R.normal(0, self.R.uniform(*self.sigma), (2, 2 * half + 1, 2 * half + 1))
        splines = np.stack([ndimage.spline_filter(axis, order=3) for axis in nodes])

        def bent(places: np.ndarray) -> np.ndarray:
            at = places / self.spacing + half
            moved = [ndimage.map_coordinates(axis, at, order=3, mode="nearest", prefilter=False) for axis in splines]
            return places + np.stack(moved)

        return bent


class RandGridDistortiond(RandDeformd):
    """Rows and columns of a grid are made wider or narrower at random.

    Args:
        keys, fields_of_view, targets, prob, label_key: as :class:`RandDeformd`.
        spacing: µm between the grid's lines.
        limit: largest share by which a row or column changes.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        targets: Views,
        prob: float = 0.5,
        spacing: float = 64.0,
        limit: float = 0.3,
        label_key: str = "label",
    ) -> None:
        super().__init__(keys, fields_of_view, targets, prob, label_key)
        if not 0 <= limit < 1:
            raise ValueError(f"limit must be from 0 to below 1, or tissue would fold, not {limit}")
        self.spacing, self.limit = spacing, limit

    def deformation(self) -> Deformation:
        half = int(np.ceil(_widest(self.views) / self.spacing)) + 1
        lines = np.arange(-half, half + 1) * self.spacing
        moved = []
        for _ in range(2):
            widths = self.spacing * (1 + self.R.uniform(-self.limit, self.limit, 2 * half))
            edges = np.concatenate([[0.0], np.cumsum(widths)])
            moved.append(edges - edges[half])
        return lambda places: np.stack([np.interp(places[axis], lines, moved[axis]) for axis in (0, 1)])


class RandOpticalDistortiond(RandDeformd):
    """Barrel or cushion, as of a lens.

    Args:
        keys, fields_of_view, targets, prob, label_key: as :class:`RandDeformd`.
        limit: largest share by which the edge of the widest view is moved towards or from the centre; beyond a sixth
            its corners would fold.
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Views,
        targets: Views,
        prob: float = 0.5,
        limit: float = 0.15,
        label_key: str = "label",
    ) -> None:
        super().__init__(keys, fields_of_view, targets, prob, label_key)
        if not 0 <= limit <= 1 / 6:
            raise ValueError(f"limit must be from 0 to 1/6, or tissue would fold, not {limit}")
        self.limit = limit

    def deformation(self) -> Deformation:
        amount, edge = self.R.uniform(-self.limit, self.limit), _widest(self.views) / 2
        return lambda places: places * (1 + amount * ((places / edge) ** 2).sum(axis=0))


def _linear(matrix: np.ndarray) -> Deformation:
    return lambda places: np.tensordot(matrix, places, axes=1)


def _widest(views: Sequence[FieldOfView]) -> float:
    return max(view.extent for view in views)


def _warped(image: np.ndarray, view: FieldOfView, deformation: Deformation) -> np.ndarray:
    rows, columns = _origins(view, deformation)
    pixels = cv2.remap(as_pixels(image), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return pixels.transpose(2, 0, 1)


def _warped_labels(labels: np.ndarray, view: FieldOfView, deformation: Deformation) -> np.ndarray:
    rows, columns = _origins(view, deformation)
    return cv2.remap(labels, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def _origins(view: FieldOfView, deformation: Deformation) -> tuple[np.ndarray, np.ndarray]:
    """Row and column in a view from which each of its pixels is taken; worked out at every few pixels."""
    count = -(-view.size // _STEP) + 1
    coarse = ((np.arange(count) * _STEP + 0.5) - view.size / 2) * view.mpp
    found = deformation(np.stack(np.meshgrid(coarse, coarse, indexing="ij"))) / view.mpp + view.size / 2 - 0.5
    place = np.arange(view.size) / _STEP
    between = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(count)[None]))
    rows, columns = (between @ axis @ between.T for axis in found)
    return rows.astype(np.float32), columns.astype(np.float32)
