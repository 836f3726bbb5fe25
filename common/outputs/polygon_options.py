"""Options of polygons: which regions are merged, simplified or left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..classes import ClassScheme
from ..slides import check_origin

_EXACT = "{min_area: 0, simplify: 0, skip: []} gives exact polygons"


@dataclass(frozen=True)
class PolygonOptions:
    """Options of the polygons of a label map.

    Attributes:
        min_area: smallest area of a region in µm²; smaller ones are merged into their surroundings. 0 keeps all.
        simplify: coarseness of the outlines in µm: a corner is removed if its triangle with its neighbours is smaller
            than the square of this length. Neighbouring regions stay flush. 0 keeps the pixels' outlines.
        skip: names of classes without polygons; None means the scheme's ``skipped`` class, if it has one.
        origin: origin of coordinates, ``"slide"`` or ``"bounds"``: QuPath crops slides that have bounds (MIRAX, SCN) to
            them.

    Raises:
        ValueError: an option is not one of these values; the message says which are.
    """

    min_area: float = 500.0
    simplify: float = 2.0
    skip: Sequence[str] | None = None
    origin: str = "slide"

    def __post_init__(self) -> None:
        for name, unit in (("min_area", "µm²"), ("simplify", "µm")):
            object.__setattr__(self, name, _length(name, getattr(self, name), unit))
        if self.skip is not None:
            names = [self.skip] if isinstance(self.skip, str) else self.skip
            if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
                raise ValueError(f"polygons: skip must be a list of class names, or null, not {self.skip!r}; {_EXACT}")
            object.__setattr__(self, "skip", tuple(names))
        try:
            check_origin(self.origin)
        except ValueError as error:
            raise ValueError(f"polygons: {error}") from None

    @classmethod
    def from_config(cls, value: PolygonOptions | Mapping[str, Any] | None) -> PolygonOptions:
        """Return the options in a mapping of a config; the defaults for None.

        Raises:
            ValueError: the mapping has an unknown key or value.
        """
        if value is None or isinstance(value, PolygonOptions):
            return value or cls()
        known = [field.name for field in fields(cls)]
        if not isinstance(value, Mapping):
            raise ValueError(f"polygons must be a mapping of {', '.join(known)}, not {value!r}; {_EXACT}")
        unknown = sorted(str(key) for key in value if key not in known)
        if unknown:
            raise ValueError(f"polygons: no option {', '.join(unknown)}; there are {', '.join(known)}")
        return cls(**value)

    @classmethod
    def exact(cls) -> PolygonOptions:
        """Return the options with which polygons cover the pixels of every class exactly."""
        return cls(min_area=0, simplify=0, skip=())

    def skipped(self, scheme: ClassScheme) -> dict[str, int]:
        """Return name -> label of the classes without polygons.

        Raises:
            ValueError: the scheme has no class of that name.
        """
        if self.skip is None:
            return {} if scheme.skipped is None else {scheme.skipped.name: scheme.skipped.label}
        unknown = [name for name in self.skip if name not in scheme.names]
        if unknown:
            raise ValueError(
                f"polygons: no class {', '.join(unknown)} to skip; the scheme has {', '.join(scheme.names)}"
            )
        return {name: scheme.by_name(name).label for name in dict.fromkeys(self.skip)}

    def settings(self, scheme: ClassScheme) -> dict[str, Any]:
        """Return the settings that a slide's polygons depend on, as its summary holds them."""
        settings = {"min_area": self.min_area, "simplify": self.simplify, "skip": list(self.skipped(scheme))}
        # Left out for "slide", so that runs from before there was this option resume.
        return settings if self.origin == "slide" else {**settings, "origin": self.origin}


def _length(name: str, value: Any, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"polygons: {name} must be a number of {unit} from 0, not {value!r}; {_EXACT}")
    return float(value)
