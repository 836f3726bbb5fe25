"""Labels from a network's output."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.transforms import MapTransform

from ..classes import ClassScheme


class LogitsToLabelsd(MapTransform):
    """Turn logits ``(C, h, w)`` into a label map ``(1, h, w)`` uint8 by a class scheme.

    Args:
        keys: keys of the logits.
        scheme: class scheme that says which label each channel stands for.

    Example::

        labels = LogitsToLabelsd("pred", scheme)({"pred": torch.zeros(scheme.num_channels, 64, 64)})["pred"]
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], scheme: ClassScheme) -> None:
        super().__init__(keys)
        self.scheme = scheme

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.scheme.labels_from_logits(result[key][None])
        return result
