"""What a slide library must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..bounds import Bounds


class Backend(ABC):
    """A file opened by one library.

    Attributes:
        level_shapes: (height, width) of each level, finest first.
        mpp: µm per level-0 pixel as (row, column), or None where the file does not say.
        mpp_quote: what the file says of it, for an error; nothing where it says nothing.
        properties: what else the file says.
        bounds: the scanned part of level 0, or None where the file does not say.
        bounds_quote: bounds in the file that cannot be; nothing where they can, or where there are none.
        remark: warning about image data in the file that is not read, or empty.
    """

    name: ClassVar[str]
    path: Path
    level_shapes: list[tuple[int, int]]
    mpp: tuple[float, float] | None
    mpp_quote: str = ""
    properties: dict[str, str]
    bounds: Bounds | None = None
    bounds_quote: str = ""
    remark: str = ""

    @abstractmethod
    def __init__(self, path: Path, series: int | None = None) -> None:
        """Open a file; ``series`` chooses among the images of a TIFF."""

    @abstractmethod
    def read(self, level: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """``(height, width, 3)`` uint8 RGB of a rectangle inside the level, in the level's pixels; safe to call
        from several threads. What is stored as transparent is white.

        Raises:
            SlideError: a part of it cannot be decoded.
        """

    @abstractmethod
    def close(self) -> None:
        """Give the file back."""
