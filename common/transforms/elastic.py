"""Elastic deformation by a seed in the item, so that class balancing decides it before training."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform
from scipy.interpolate import RectBivariateSpline
from torch.nn import functional

from ..slides import FieldOfView


class ElasticDeformationd(MapTransform):
    """Deform a patch by its item's ``deformation``, a random seed; -1 leaves the patch unchanged.

    The points of a grid around the centre are displaced by a normal distribution, with bicubic interpolation between
    them. Every view and the label map show the same deformed tissue, whichever views a network has.

    Args:
        keys: key of the image ``(3·S, H, W)``.
        fields_of_view: the views, finest first.
        target: field of view of the label map.
        extent: side of the grid in µm, no less than that of any view (paper: 1024 pixels at 20x, 512 µm).
        sigma: standard deviation of the displacement in µm (paper: 4 pixels at 20x, 2 µm).
        label_key: key of the label map.
        grid: points along each side of the grid (paper: 17).

    Raises:
        ValueError: a view or the target is larger than the grid.

    Source: Ho et al. 2021, section 2.3. The paper deforms the 1024² input patch before it cuts the views.

    Example::

        view = {"mpp": 0.5, "size": 256}
        deform = ElasticDeformationd("image", [view], view, extent=512, sigma=2)
        item = {"image": np.zeros((3, 256, 256), np.uint8), "label": np.ones((1, 256, 256), np.uint8)}
        item = deform({**item, "deformation": 7})
    """

    def __init__(
        self,
        keys: Hashable | Sequence[Hashable],
        fields_of_view: Sequence[FieldOfView | Mapping[str, Any]],
        target: FieldOfView | Mapping[str, Any],
        extent: float,
        sigma: float,
        label_key: str = "label",
        grid: int = 17,
    ) -> None:
        super().__init__(keys)
        self.views = [FieldOfView.from_config(view) for view in fields_of_view]
        self.target = FieldOfView.from_config(target)
        self.label_key, self.grid, self.extent, self.sigma = label_key, grid, extent, sigma
        widest = max(view.extent for view in [*self.views, self.target])
        if widest > extent * (1 + 1e-6):
            raise ValueError(
                f"the elastic deformation spans {extent:g} µm, less than the {widest:g} µm that are seen. Set its "
                f"extent (elastic_extent) to {widest:g} or more, and its sigma (elastic_sigma) in proportion"
            )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        seed = int(result.get("deformation", -1))
        if seed < 0:
            return result
        nodes = np.random.default_rng(seed).normal(0, self.sigma, (2, self.grid, self.grid))
        points = np.arange(self.grid)
        field = [RectBivariateSpline(points, points, axis, kx=3, ky=3) for axis in nodes]
        for key in self.key_iterator(result):
            image = result[key]
            views = [self._warp(image[3 * i : 3 * i + 3], view, field, "bicubic") for i, view in enumerate(self.views)]
            result[key] = np.concatenate(views)
        result[self.label_key] = self._warp(result[self.label_key], self.target, field, "nearest")
        return result

    def _displacement(self, view: FieldOfView, field: Sequence[RectBivariateSpline]) -> np.ndarray:
        """Return the displacement of each pixel of a view in µm: ``(2, size, size)``, row and column."""
        offset = (np.arange(view.size) + 0.5 - view.size / 2) * view.mpp
        place = (offset / self.extent + 0.5) * (self.grid - 1)
        return np.stack([axis(place, place) for axis in field])

    def _warp(
        self, image: np.ndarray, view: FieldOfView, field: Sequence[RectBivariateSpline], mode: str
    ) -> np.ndarray:
        pixels = self._displacement(view, field) / view.mpp
        at = (np.arange(view.size) + 0.5) / view.size * 2 - 1
        rows, columns = np.meshgrid(at, at, indexing="ij")
        grid = np.stack([columns + pixels[1] * 2 / view.size, rows + pixels[0] * 2 / view.size], axis=-1)
        warped = functional.grid_sample(
            torch.as_tensor(np.asarray(image), dtype=torch.float32)[None],
            torch.as_tensor(grid, dtype=torch.float32)[None],
            mode=mode,
            padding_mode="reflection",
            align_corners=False,
        )[0]
        return warped.round().clamp(0, 255).to(torch.uint8).numpy()
