"""Transforms selected by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.transforms import Compose


class SelectTransforms(Compose):
    """The named ones of several transforms, applied in the order of ``available``.

    Args:
        available: transforms by name.
        names: names of the transforms to apply, in any order.

    Raises:
        ValueError: a name is not available.

    Example::

        augment = SelectTransforms({"noise": RandNoised("image"), "gamma": RandGammad("image")}, names=["gamma"])
    """

    def __init__(self, available: Mapping[str, Callable[..., Any]], names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in available]
        if unknown:
            raise ValueError(f"no augmentation {', '.join(unknown)}; there are {', '.join(available)}")
        super().__init__([transform for name, transform in available.items() if name in names])
