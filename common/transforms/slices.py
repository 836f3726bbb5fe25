"""Random scale and crop of a slice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform, RandomizableTransform
from torch.nn import functional


class RandScaledSliced(RandomizableTransform, MapTransform):
    """Shrink the slice by a random factor and crop it at random. Shrink the other views, whole, to the same size.

    Args:
        image: key of ``(3·S, N, N)``, the slice first. It becomes ``(3·S, size, size)`` float32.
        label: key of the slice's label map ``(1, N, N)``. It becomes ``(1, size, size)``, cropped like the slice.
        size: side of the crop in pixels.
        scale: smallest and largest factor; uniform.
        shortest: smallest side in pixels to which the slice is shrunk.

    Raises:
        ValueError: the slice is smaller than ``shortest``, or ``shortest`` than the crop.

    Source: Li et al. 2020, released code: slices of 1,000² pixels, shrunk by 0.5 to 1 but to no less than 600²;
    crops of 500².

    Example::

        crop = RandScaledSliced(size=500, shortest=600)
        item = crop({"image": np.zeros((6, 1000, 1000), np.uint8), "label": np.ones((1, 1000, 1000), np.uint8)})
    """

    def __init__(
        self,
        image: Hashable = "image",
        label: Hashable = "label",
        size: int = 500,
        scale: tuple[float, float] = (0.5, 1.0),
        shortest: int = 600,
    ) -> None:
        MapTransform.__init__(self, [image, label])
        RandomizableTransform.__init__(self, 1.0)
        if not size <= shortest:
            raise ValueError(f"a piece of {size} pixels cannot be cut from slices of {shortest}. Raise shortest")
        self.image, self.label = image, label
        self.size, self.scale, self.shortest = size, scale, shortest

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        image, label = (torch.as_tensor(np.asarray(result[key])) for key in (self.image, self.label))
        side = image.shape[-1]
        if side < self.shortest:
            raise ValueError(
                f"slices of {side} pixels were read, pieces come from at least {self.shortest}. Set shortest to less"
            )
        scaled = max(round(self.R.uniform(*self.scale) * side), self.shortest)
        top, left = (int(self.R.randint(0, scaled - self.size + 1)) for _ in range(2))
        piece = (..., slice(top, top + self.size), slice(left, left + self.size))
        image = image.float()[None]
        views = [functional.interpolate(image[:, :3], (scaled, scaled), mode="bilinear", antialias=True)[0][piece]]
        if image.shape[1] > 3:
            views.append(functional.interpolate(image[:, 3:], (self.size, self.size), mode="area")[0])
        nearest = functional.interpolate(label.float()[None], (scaled, scaled), mode="nearest-exact")[0][piece]
        result[self.image] = torch.cat(views).numpy()
        result[self.label] = nearest.to(label.dtype).numpy()
        return result
