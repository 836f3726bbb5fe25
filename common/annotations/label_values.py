"""Map the pixel values of a label image to labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..classes import IGNORE, ClassScheme
from .regions import AnnotationError

_MOST_NAMED = 10


class LabelValues:
    """Lookup table from pixel values of any type to labels.

    Args:
        path: the image, for messages.
        scheme: the classes.
        values: pixel value -> class name, or None for unlabelled; without it, the values are the scheme's labels.
        dtype: type of the image's pixels.

    Raises:
        AnnotationError: a key of ``values`` is not a value that the image can hold, or a class is not in the scheme.
    """

    def __init__(
        self, path: Path, scheme: ClassScheme, values: Mapping[Any, str | None] | None, dtype: np.dtype
    ) -> None:
        self.path = path
        table = {label: label for label in range(len(scheme) + 1)}
        if values is not None:
            table = dict(self._entry(value, name, scheme, dtype) for value, name in values.items())
        self._values = np.array(sorted(table), dtype=np.int64)
        self._labels = np.array([table[value] for value in sorted(table)], dtype=np.uint8)

    def labels(self, stored: np.ndarray) -> np.ndarray:
        """Return the label of each value.

        Raises:
            AnnotationError: some values are not whole numbers or stand for no class.
        """
        whole = self._whole(stored)
        if not len(self._values):
            self._refuse(stored)
        at = np.minimum(np.searchsorted(self._values, whole), len(self._values) - 1)
        unknown = self._values[at] != whole
        if unknown.any():
            self._refuse(stored[unknown])
        return self._labels[at]

    def _refuse(self, stored: np.ndarray) -> None:
        found = np.unique(stored).tolist()
        more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise AnnotationError(
            self.path,
            f"pixel values that stand for no class: {found[:_MOST_NAMED]}{more}",
            "Say which value is which class with label_values (null leaves it unlabelled)",
        )

    def _whole(self, stored: np.ndarray) -> np.ndarray:
        """Return values as int64."""
        if stored.dtype.kind == "u" and stored.dtype.itemsize == 8:
            return np.minimum(stored, np.uint64(np.iinfo(np.int64).max)).astype(np.int64)
        if stored.dtype.kind != "f":
            return stored.astype(np.int64)
        stored = stored.astype(np.float64)
        # Beyond 2^53 floats have gaps, and no label is that large.
        broken = ~(np.abs(stored) < 2.0**53) | (stored != np.floor(stored))
        if broken.any():
            raise AnnotationError(
                self.path,
                f"pixel values that are not whole numbers: {np.unique(stored[broken])[:_MOST_NAMED].tolist()}",
                "Save the labels as 8- or 16-bit whole numbers, not interpolated",
            )
        return stored.astype(np.int64)

    def _entry(self, value: Any, name: str | None, scheme: ClassScheme, dtype: np.dtype) -> tuple[int, int]:
        try:
            number = int(float(value))
            if number != float(value):
                raise ValueError("it is not a whole number")
            limits = np.iinfo(dtype if dtype.kind in "iu" else np.uint8 if dtype.kind == "b" else np.int64)
            if not limits.min <= number <= min(limits.max, np.iinfo(np.int64).max):
                raise ValueError(f"it is not from {limits.min} to {limits.max}")
            return number, IGNORE if name is None else scheme.by_name(name).label
        except (TypeError, ValueError, OverflowError) as error:
            raise AnnotationError(
                self.path,
                f"label_values maps {value!r} to {name!r}: {error}",
                "Map pixel values, whole numbers, to class names or null",
            ) from None
