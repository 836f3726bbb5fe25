"""Turns a network's output into labels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.transforms import MapTransform

from ..classes import ClassScheme


class LogitsToLabelsd(MapTransform):
    """Logits ``(C, h, w)`` -> label map ``(1, h, w)`` uint8 by the bundle's class scheme.

    Args:
        keys: of the logits.
        scheme: the classes.
    """

    def __init__(self, keys: Hashable | Sequence[Hashable], scheme: ClassScheme) -> None:
        super().__init__(keys)
        self.scheme = scheme

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.scheme.labels_from_logits(result[key][None])
        return result
