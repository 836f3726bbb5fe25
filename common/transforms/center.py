"""Where a patch is taken."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import RandomizableTransform, Transform


class RandCenterJitterd(RandomizableTransform, Transform):
    """Take the patch up to ``jitter`` µm away from where it is listed, down or up and left or right: other surroundings
    of the same tissue, read from the slide (x-y jitter of Modi et al. 2024).

    Before :class:`LoadMultiMagnificationPatchd`, which moves the centre by the ``offset`` that this adds to the item.

    Args:
        jitter: largest distance along either axis in µm.
        prob: of doing anything.
    """

    def __init__(self, jitter: float, prob: float = 0.5) -> None:
        RandomizableTransform.__init__(self, prob)
        self.jitter = jitter

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        return {**data, "offset": tuple(self.R.uniform(-self.jitter, self.jitter, 2).tolist())}
