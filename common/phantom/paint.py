"""Paint a phantom's pixels: stain amounts from textures, colour by Beer–Lambert, then the scanner."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from .layout import Layout
from .noise import SmoothNoise, hashed, scattered
from .recipe import Core, Ground, Nuclei, Population, Texture

# µm between a nucleus and the membrane of its cell, and thickness of the membrane.
_CYTOPLASM_UM = 2.0
_MEMBRANE_UM = 0.7


@dataclass(frozen=True)
class Scanner:
    """The staining and scanning of one slide.

    Attributes:
        nuclear, counterstain, marker: optical densities of the dyes.
        white: grey values of white.
        blur_um, noise: standard deviations of blur in µm and of noise in grey values.
        gamma: exponent of brightness.
    """

    nuclear: np.ndarray
    counterstain: np.ndarray
    white: np.ndarray
    blur_um: float
    noise: float
    marker: np.ndarray = field(default_factory=lambda: np.zeros(3))
    gamma: float = 1.0

    @classmethod
    def drawn(cls, layout: Layout) -> Scanner:
        """Draw stain strength and hue, white point, sharpness and noise, which vary from slide to slide."""
        draw = hashed(layout.seed, 0x5CA1, np.arange(16)) - 0.5
        stain = layout.recipe.stain
        return cls(
            nuclear=np.array(stain.nuclear) * (1 + 0.3 * draw[0] + 0.12 * draw[1:4]),
            counterstain=np.array(stain.counterstain) * (1 + 0.4 * draw[4] + 0.12 * draw[5:8]),
            white=243 + 8 * draw[8] + 4 * draw[9:12],
            blur_um=0.32 + 0.2 * draw[12],
            noise=1.8 + 1.2 * draw[13],
        )


class Painter:
    """A painter of rectangles of a layout at one µm/px; each rectangle is independent of the others painted.

    Args:
        layout: geometry of the phantom.
        mpp: µm/px.
        scanner: staining and scanning; by default drawn from the layout's seed.
    """

    # Largest reach in µm of bodies and blur into a rectangle.
    margin_um = 12.0

    def __init__(self, layout: Layout, mpp: float, scanner: Scanner | None = None) -> None:
        self.layout, self.mpp = layout, mpp
        self.scanner = scanner or Scanner.drawn(layout)
        recipe = layout.recipe
        cores = {i: p.core for i, p in enumerate(recipe.populations) if p.core is not None}
        made: list[Ground | Population | Core] = [*recipe.grounds, *recipe.populations, *cores.values()]
        self._textures = [part.texture for part in made]
        names = [part.class_name for part in made]
        self._labels = np.array([recipe.scheme.by_name(name).label for name in [*names, recipe.glass]], dtype=np.uint8)
        first = len(recipe.grounds) + len(recipe.populations)
        self._cores = {index: (core, first + i) for i, (index, core) in enumerate(cores.items())}

    def labels(self, top: int, left: int, height: int, width: int, mpp: float | None = None) -> np.ndarray:
        """Return the label map of a rectangle given in pixels of ``mpp``, ``(height, width)`` uint8."""
        y, x = self._coordinates(top, left, height, width, mpp or self.mpp)
        return self._labels[self._kinds(y, x)]

    def image(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return the picture of a rectangle, ``(height, width, 3)`` uint8."""
        margin = round(self.margin_um / self.mpp)
        y, x = self._coordinates(top - margin, left - margin, height + 2 * margin, width + 2 * margin, self.mpp)
        inner = (slice(margin, margin + height), slice(margin, margin + width))
        return self._scanned(self._amounts(y, x), inner, top, left)

    def _amounts(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return amounts of counterstain, nuclear stain and marker, ``(3, H, W)``."""
        kinds = self._kinds(y, x)
        amounts = np.zeros((3, *kinds.shape), dtype=np.float32)
        for kind in np.unique(kinds[kinds >= 0]).tolist():
            here = kinds == kind
            rows, columns = (slice(*_span(here.any(axis=1 - axis))) for axis in (0, 1))
            part = here[rows, columns]
            stained = self._stained(self._textures[kind], kind, y[rows], x[columns], part)
            for amount, found in zip(amounts, stained, strict=True):
                amount[rows, columns][part] = found[part]
        return amounts

    def _coordinates(self, top: int, left: int, height: int, width: int, mpp: float) -> tuple[np.ndarray, np.ndarray]:
        return (top + np.arange(height) + 0.5) * mpp, (left + np.arange(width) + 0.5) * mpp

    def _kinds(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the index of the texture at each pixel; -1 on glass, which indexes the last label."""
        kinds = self._ground(y, x)
        pixel = y[1] - y[0] if len(y) > 1 else self.mpp
        for structure in self.layout.near(y[0], x[0], y[-1], x[-1]):
            rows = slice(
                *np.searchsorted(y, [structure.y - structure.reach - pixel, structure.y + structure.reach + pixel])
            )
            columns = slice(
                *np.searchsorted(x, [structure.x - structure.reach - pixel, structure.x + structure.reach + pixel])
            )
            here, place = kinds[rows, columns], (y[rows, None], x[None, columns])
            here[structure.contains(*place)] = len(self.layout.recipe.grounds) + structure.population
            core, kind = self._cores.get(structure.population, (None, 0))
            drawn = hashed(self.layout.seed, 0xC04E, int(structure.y * 64), int(structure.x * 64))
            if core is not None and drawn < core.share:
                here[structure.contains(*place, core.size)] = kind
        return kinds

    def _ground(self, y: np.ndarray, x: np.ndarray, step: int = 16) -> np.ndarray:
        """Return the ground of every pixel, evaluated per pixel only where a coarse grid shows a border nearby."""
        coarse_y, coarse_x = _thinned(y, step), _thinned(x, step)
        coarse = self.layout.ground(*np.meshgrid(coarse_y, coarse_x, indexing="ij"))
        mixed = ndimage.maximum_filter(coarse, 3) != ndimage.minimum_filter(coarse, 3)
        row, column = np.arange(len(y)) // step, np.arange(len(x)) // step
        kinds = coarse[row[:, None], column[None]]
        fine = mixed[row[:, None], column[None]]
        if fine.any():
            i, j = np.nonzero(fine)
            kinds[i, j] = self.layout.ground(y[i], x[j])
        return kinds

    def _stained(
        self, texture: Texture, kind: int, y: np.ndarray, x: np.ndarray, here: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        seed = int(hashed(self.layout.seed, 0x7E87, self._shared_index(kind)) * 2**52)
        counterstain = texture.counterstain + texture.grain[0] * SmoothNoise(seed, texture.grain[1]).grid(y, x)
        counterstain += 0.6 * texture.grain[0] * SmoothNoise(seed + 1, 40.0).grid(y, x)
        nuclear = texture.nuclear + 0.35 * texture.grain[0] * SmoothNoise(seed + 2, texture.grain[1] * 1.7).grid(y, x)
        if texture.fibres is not None:
            counterstain += self._fibres(seed + 3, texture.fibres, y, x)
        if texture.cells is not None:
            counterstain, nuclear = _membranes(seed + 4, texture.cells, counterstain, nuclear, y, x)
        if texture.lumen is not None:
            counterstain, nuclear = self._lumens(seed + 5, texture.lumen, counterstain, nuclear, y, x)
        empty = counterstain < 0.6 * texture.counterstain if texture.lumen is not None else None
        marker = np.zeros_like(nuclear)
        for number, bodies in enumerate(texture.nuclei):
            dark, marked = self._bodies(seed + 6 + number, bodies, y, x, empty, texture.expresses)
            nuclear, marker = np.maximum(nuclear, dark), np.maximum(marker, marked)
        return counterstain, nuclear, marker

    def _shared_index(self, kind: int) -> int:
        """Return the index of a texture, which populations share: its fields do not tell them apart."""
        return self._textures.index(self._textures[kind])

    def _fibres(self, seed: int, fibres: tuple[float, float], y: np.ndarray, x: np.ndarray) -> np.ndarray:
        amplitude, width = fibres
        angle = hashed(seed, 9) * np.pi
        potential = (y[:, None] * np.sin(angle) + x[None] * np.cos(angle)).astype(np.float32)
        potential = potential + 90 * SmoothNoise(seed, 160.0).grid(y, x) + 7 * SmoothNoise(seed + 1, 28.0).grid(y, x)
        bundle = np.sin(2 * np.pi * potential / width + 1.2 * SmoothNoise(seed + 2, 12.0).grid(y, x))
        strands = np.sin(2 * np.pi * potential / (2.7 * width))
        loose = np.clip(0.6 + 0.5 * SmoothNoise(seed + 3, 70.0).grid(y, x), 0.1, 1.4)
        return amplitude * loose * (0.6 * bundle + 0.5 * strands)

    def _lumens(
        self,
        seed: int,
        lumen: tuple[float, float],
        counterstain: np.ndarray,
        nuclear: np.ndarray,
        y: np.ndarray,
        x: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        spacing, radius = lumen
        reach = 2 * radius
        cy, cx, identity = scattered(seed, spacing, y[0] - reach, x[0] - reach, y[-1] + reach, x[-1] + reach)
        empty = np.zeros_like(counterstain)
        for body_y, body_x, draw in zip(cy, cx, hashed(seed, identity, 1), strict=True):
            _stamp(
                empty,
                y,
                x,
                body_y,
                body_x,
                radius * (0.5 + draw),
                radius * (0.5 + draw) * 0.8,
                draw * 6.3,
                1.0,
                self.mpp,
            )
        return counterstain * (1 - 0.93 * empty), nuclear * (1 - 0.97 * empty)

    def _bodies(
        self, seed: int, bodies: Nuclei, y: np.ndarray, x: np.ndarray, empty: np.ndarray | None, expresses: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return amounts of nuclear stain and of marker."""
        dark, marked = (np.zeros((len(y), len(x)), dtype=np.float32) for _ in range(2))
        stain = self.layout.recipe.stain
        reach = 2 * bodies.radius * bodies.elongation
        cy, cx, identity = scattered(seed, bodies.spacing, y[0] - reach, x[0] - reach, y[-1] + reach, x[-1] + reach)
        draw = hashed(seed, identity[:, None], np.arange(6)[None])
        flow = self.layout.flow.at(cy, cx) if len(cy) else cy
        for index in np.nonzero(draw[:, 0] < bodies.share)[0].tolist():
            size = bodies.radius * (0.75 + 0.5 * draw[index, 1])
            stretch = bodies.elongation**0.5
            angle = 1.6 * flow[index] + 1.2 * (draw[index, 2] - 0.5) if bodies.elongation > 2 else 6.3 * draw[index, 2]
            depth = bodies.darkness * (0.7 + 0.6 * draw[index, 3])
            positive = draw[index, 4] < expresses * stain.positive
            shape = (y, x, cy[index], cx[index], size * stretch, size / stretch, angle)
            strength = 0.35 + 0.9 * draw[index, 5]
            if positive and stain.marks == "nuclei":
                _stamp(marked, *shape, strength, self.mpp)
                continue
            _stamp(dark, *shape, depth, self.mpp)
            if positive and stain.marks == "membranes":
                _stamp(marked, *shape, strength, self.mpp, membrane=True)
        chromatin = 1 + 0.16 * SmoothNoise(seed + 17, 1.1).grid(y, x)
        if empty is not None:
            dark, marked = (np.where(empty, 0, part) for part in (dark, marked))
        return dark * chromatin, marked * chromatin

    def _scanned(self, amounts: np.ndarray, inner: tuple[slice, slice], top: int, left: int) -> np.ndarray:
        scanner = self.scanner
        sigma = scanner.blur_um / self.mpp
        eosin, blue, marker = (
            ndimage.gaussian_filter(np.maximum(amount, 0), sigma, truncate=3)[inner] if amount.any() else amount[inner]
            for amount in amounts
        )
        density = blue[..., None] * scanner.nuclear.astype(np.float32) + eosin[..., None] * scanner.counterstain.astype(
            np.float32
        )
        if marker.any():
            density = density + marker[..., None] * scanner.marker.astype(np.float32)
        rng = np.random.default_rng([self.layout.seed, top + 2**20, left + 2**20])
        grain = rng.standard_normal(eosin.shape, dtype=np.float32)[..., None] * np.float32(scanner.noise)
        light = np.exp(-density) if scanner.gamma == 1 else np.exp(-density * np.float32(scanner.gamma))
        return np.clip(light * scanner.white.astype(np.float32) + grain, 0, 255).astype(np.uint8)


def _span(used: np.ndarray) -> tuple[int, int]:
    places = np.nonzero(used)[0]
    return int(places[0]), int(places[-1]) + 1


def _thinned(coordinates: np.ndarray, step: int) -> np.ndarray:
    groups = -(-len(coordinates) // step)
    middle = np.minimum(np.arange(groups) * step + step // 2, len(coordinates) - 1)
    return coordinates[middle]


def _membranes(
    seed: int, diameter: float, counterstain: np.ndarray, nuclear: np.ndarray, y: np.ndarray, x: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return stains of which only the borders between Voronoi cells are left, as in fat."""
    cy, cx, _ = scattered(
        seed, diameter, y[0] - 3 * diameter, x[0] - 3 * diameter, y[-1] + 3 * diameter, x[-1] + 3 * diameter
    )
    step = 2
    fine_y, fine_x = np.meshgrid(y[::step], x[::step], indexing="ij")
    distance, _ = cKDTree(np.stack([cy, cx], axis=1)).query(np.stack([fine_y.ravel(), fine_x.ravel()], axis=1), k=2)
    gap = (distance[:, 1] - distance[:, 0]).reshape(fine_y.shape)
    gap = np.repeat(np.repeat(gap, step, axis=0), step, axis=1)[: len(y), : len(x)]
    wall = np.exp(-((gap / 2.6) ** 2)).astype(np.float32)
    return counterstain * (0.04 + 0.96 * wall), nuclear * wall


def _stamp(
    canvas: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    cy: float,
    cx: float,
    a: float,
    b: float,
    angle: float,
    depth: float,
    pixel: float,
    membrane: bool = False,
) -> None:
    """Stamp a soft-edged ellipse of half axes ``a`` and ``b`` (µm) on the canvas, keeping darker pixels; with
    ``membrane``, the membrane of the cell whose nucleus it is."""
    if membrane:
        a, b = a + _CYTOPLASM_UM, b + _CYTOPLASM_UM
    rows, columns, distance = _around(y, x, cy, cx, a, b, angle, pixel)
    inwards = (1.0 - distance) * min(a, b)
    shape = np.exp(-((inwards / _MEMBRANE_UM) ** 2)) if membrane else np.clip(inwards / pixel + 0.5, 0, 1)
    part = canvas[rows, columns]
    np.maximum(part, shape * depth, out=part)


def _around(
    y: np.ndarray, x: np.ndarray, cy: float, cx: float, a: float, b: float, angle: float, pixel: float
) -> tuple[slice, slice, np.ndarray]:
    """Return the part of a canvas near an ellipse, and the distances there from its centre, 1 on its edge."""
    reach = max(a, b) + 2 * pixel
    top, bottom = max(int((cy - reach - y[0]) / pixel), 0), min(int((cy + reach - y[0]) / pixel) + 2, len(y))
    left, right = max(int((cx - reach - x[0]) / pixel), 0), min(int((cx + reach - x[0]) / pixel) + 2, len(x))
    rows, columns = slice(top, max(top, bottom)), slice(left, max(left, right))
    dy, dx = y[rows, None] - cy, x[None, columns] - cx
    cosine, sine = np.cos(angle), np.sin(angle)
    return rows, columns, np.sqrt(((dx * cosine + dy * sine) / a) ** 2 + ((dy * cosine - dx * sine) / b) ** 2)
