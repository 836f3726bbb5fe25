"""Random offset of a patch's centre."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import RandomizableTransform, Transform


class RandCenterJitterd(RandomizableTransform, Transform):
    """Move the patch by up to ``jitter`` µm along each axis ("x-y jitter"). Pixels and labels are then read there.

    Apply before :class:`common.data.LoadMultiMagnificationPatchd`, which moves the centre by the ``offset`` that this
    adds to the item.

    Args:
        jitter: largest distance along each axis in µm.
        prob: probability of moving the patch.

    Source: Modi et al. 2024.

    Example::

        item = RandCenterJitterd(jitter=64.0)({"image": "slide.svs", "center": (2048.0, 2048.0)})
    """

    def __init__(self, jitter: float, prob: float = 0.5) -> None:
        RandomizableTransform.__init__(self, prob)
        self.jitter = jitter

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        return {**data, "offset": tuple(self.R.uniform(-self.jitter, self.jitter, 2).tolist())}
