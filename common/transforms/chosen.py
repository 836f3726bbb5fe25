"""Augmentations by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.transforms import Compose


class ChosenTransforms(Compose):
    """Those of several transforms that are named, in the order in which they are available.

    Args:
        available: name -> transform.
        names: those to use.

    Raises:
        ValueError: a name that is not available.
    """

    def __init__(self, available: Mapping[str, Callable[..., Any]], names: Sequence[str]) -> None:
        unknown = [name for name in names if name not in available]
        if unknown:
            raise ValueError(f"no augmentation {', '.join(unknown)}; there are {', '.join(available)}")
        super().__init__([transform for name, transform in available.items() if name in names])
