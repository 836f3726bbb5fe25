"""Lay out a phantom: the ground at any point, and the list of structures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from .noise import SmoothNoise, hashed, scattered
from .recipe import Population, Recipe

_LARGEST_BULGE = 1.16
_PROBES = 16
_OUTLINE_POINTS = 48
# Tries around each structure of a crowding population, and random numbers per try.
_GROWTH = np.arange(24 * 7).reshape(24, 7)
# The structure whose outline is nearest is among so many whose centres are nearest.
_NEAREST = 4
# µm by which ground that keeps clear of structures is farther away in places.
_UNEVEN = 22.0
# Distance of circles in µm above any requested clearance, so that outlines need not be compared.
_CLOSE = 400.0


@dataclass(frozen=True)
class Structure:
    """One compact structure: centre and mean radius in µm, length over width, angle, phases of its bulges, and index of
    its population in the recipe."""

    y: float
    x: float
    radius: float
    elongation: float
    angle: float
    phases: tuple[float, float]
    population: int

    @property
    def reach(self) -> float:
        """Radius of the circle around it, in µm."""
        return self.radius * self.elongation**0.5 * _LARGEST_BULGE

    @cached_property
    def outline(self) -> np.ndarray:
        """Points along its outline, ``(count, 2)`` as (y, x) in µm."""
        theta = np.arange(_OUTLINE_POINTS) * 2 * np.pi / _OUTLINE_POINTS
        radius = self.radius * self._bulge(theta)
        along = radius * np.cos(theta) * self.elongation**0.5
        across = radius * np.sin(theta) / self.elongation**0.5
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return np.stack([self.y + along * sine + across * cosine, self.x + along * cosine - across * sine], axis=1)

    def _bulge(self, theta: np.ndarray) -> np.ndarray:
        return 1 + 0.09 * np.sin(2 * theta + self.phases[0]) + 0.07 * np.sin(3 * theta + self.phases[1])

    def contains(self, y: np.ndarray, x: np.ndarray, share: float = 1.0) -> np.ndarray:
        """Return which points (µm) lie in it, or in it when shrunk to this share of its radius."""
        dy, dx = y - self.y, x - self.x
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        along = (dx * cosine + dy * sine) / self.elongation**0.5
        across = (dy * cosine - dx * sine) * self.elongation**0.5
        return along**2 + across**2 < (share * self.radius * self._bulge(np.arctan2(across, along))) ** 2


class Layout:
    """A phantom's geometry, in µm from the top left corner.

    Args:
        recipe: kind of slide.
        seed: random seed.
        height, width: size in µm.
    """

    def __init__(self, recipe: Recipe, seed: int, height: float, width: float) -> None:
        self.recipe, self.seed, self.height, self.width = recipe, seed, height, width
        self._warp = [SmoothNoise(self._seed("warp", i), 420.0) for i in range(2)]
        self._edge = SmoothNoise(self._seed("edge", 0), 500.0)
        self._fields = [SmoothNoise(self._seed("ground", i), g.wavelength) for i, g in enumerate(recipe.grounds)]
        self.flow = SmoothNoise(self._seed("flow", 0), 900.0)
        self._deal = self._dealt_territories()
        self._tree: cKDTree | None = None
        self._placing = True
        self.structures = self._place()
        self._placing = False
        self._reach = np.array([s.reach for s in self.structures])
        self._farthest = max((s.reach for s in self.structures), default=0.0)
        if self.structures:
            self._tree = cKDTree([(s.y, s.x) for s in self.structures])

    def ground(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the index of the ground at every point ``(y, x)`` (µm), int8; -1 on glass."""
        result = np.where(self._inside(y, x), 0, -1).astype(np.int8)
        tissue = result == 0
        if not tissue.any():
            return result
        ty, tx = y[tissue], x[tissue]
        territory = self._territory(ty, tx)
        ground = np.zeros(ty.shape, dtype=np.int8)
        for index, kind in enumerate(self.recipe.grounds[1:], start=1):
            if kind.clear_of is not None and self._placing:
                # While structures are being placed, grounds that keep clear of them do not count.
                continue
            here = np.isin(territory, [i for i, name in enumerate(self.recipe.territories) if name == kind.territory])
            if here.any():
                field = self._fields[index].at(ty[here], tx[here])
                above = field > kind.level
                if kind.clear_of is not None and self.structures:
                    above &= self.distance(ty[here], tx[here]) > kind.clear_of + _UNEVEN * np.abs(field)
                ground[here] = np.where(above, index, ground[here])
        result[tissue] = ground
        return result

    def near(self, top: float, left: float, bottom: float, right: float) -> Iterator[Structure]:
        """Yield structures that may reach into a rectangle (µm), in the order they were placed."""
        if self._tree is None:
            return
        middle = ((top + bottom) / 2, (left + right) / 2)
        radius = np.hypot(bottom - top, right - left) / 2 + self._farthest
        for index in sorted(self._tree.query_ball_point(middle, radius)):
            structure = self.structures[index]
            if (
                top - structure.reach < structure.y < bottom + structure.reach
                and left - structure.reach < structure.x < right + structure.reach
            ):
                yield structure

    def distance(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return µm from points ``(y, x)`` to the circle around the nearest structure; infinite if there is none."""
        if self._tree is None:
            return np.full(np.shape(y), np.inf)
        nearest = min(_NEAREST, len(self.structures))
        to_centre, index = self._tree.query(np.stack([y, x], axis=-1), k=np.arange(1, nearest + 1))
        return (to_centre - self._reach[index]).min(axis=-1)

    def _seed(self, name: str, index: int) -> int:
        return int(hashed(self.seed, int.from_bytes(name.encode(), "little"), index) * 2**52)

    def _inside(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return which points lie in the tissue, a rounded rectangle with an uneven rim."""
        margin = min(350.0, 0.06 * min(self.height, self.width))
        u = np.abs(y / self.height - 0.5) * 2 / (1 - 2 * margin / self.height)
        v = np.abs(x / self.width - 0.5) * 2 / (1 - 2 * margin / self.width)
        distance = (u**5 + v**5) ** 0.2
        # Deep inside, noise would change nothing.
        inside = distance < 0.9
        rim = ~inside & (distance < 1.02)
        if rim.any():
            inside[rim] = distance[rim] + 0.025 * self._edge.at(y[rim], x[rim]) < 0.965
        return inside

    def _territory(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        size = self.recipe.territory_size
        rows, columns = self._deal.shape
        wy, wx = (180.0 * warp.at(y, x) for warp in self._warp)
        row = np.clip(np.floor((y + wy) / size).astype(int), 0, rows - 1)
        column = np.clip(np.floor((x + wx) / size).astype(int), 0, columns - 1)
        return self._deal[row, column]

    def _dealt_territories(self) -> np.ndarray:
        """Return the territory of each square; every kind comes once per deal, so that a small slide has them all."""
        size = self.recipe.territory_size
        rows, columns = max(1, round(self.height / size)), max(1, round(self.width / size))
        kinds = len(self.recipe.territories)
        deals = -(-rows * columns // kinds)
        order = hashed(self._seed("deal", 0), np.arange(deals)[:, None], np.arange(kinds)[None]).argsort(axis=1)
        return _in_blocks(order.ravel(), rows, columns)

    def _place(self) -> list[Structure]:
        placed: list[Structure] = []
        largest = max((p.radius[1] for p in self.recipe.populations), default=0.0)
        occupied = _Occupied(max((p.clearance for p in self.recipe.populations), default=0.0) + 4 * largest)
        for index, population in enumerate(self.recipe.populations):
            members: list[Structure] = []
            for candidate in self._candidates(index, population):
                self._settle([candidate], population, members, occupied)
            kept = _with_neighbours(members, population)
            for lonely in set(range(len(members))) - set(kept):
                occupied.remove(members[lonely])
            placed.extend(members[i] for i in kept)
        return placed

    def _settle(
        self, waiting: list[Structure], population: Population, members: list[Structure], occupied: _Occupied
    ) -> None:
        """Place the structures that have room; a crowding population then grows outwards from them (Bridson 2007)."""
        while waiting:
            candidate = waiting.pop()
            if not (occupied.free(candidate, population.clearance) and self._on_plain_ground(candidate, population)):
                continue
            members.append(candidate)
            occupied.add(candidate)
            if population.crowding:
                waiting.extend(self._around(candidate, population))

    def _around(self, parent: Structure, population: Population) -> Iterator[Structure]:
        low, high = population.radius
        for draw in hashed(self._seed("grow", parent.population), int(parent.y * 64), int(parent.x * 64), _GROWTH):
            radius, elongation = low + (high - low) * draw[0], 1 + 0.45 * draw[1]
            distance = parent.radius + radius + population.clearance * (1.0 + 0.35 * draw[2])
            y, x = parent.y + distance * np.sin(draw[3] * 2 * np.pi), parent.x + distance * np.cos(draw[3] * 2 * np.pi)
            phases = (float(draw[4] * 2 * np.pi), float(draw[5] * 2 * np.pi))
            yield Structure(
                float(y), float(x), float(radius), float(elongation), float(draw[6] * np.pi), phases, parent.population
            )

    def _candidates(self, index: int, population: Population) -> Iterator[Structure]:
        """Yield random shapes at random places of the population's territory, in random order."""
        seed = self._seed("place", index)
        y, x, identity = scattered(seed, population.spacing, 0, 0, self.height, self.width)
        here = self._at_home(y, x, population)
        y, x, identity = y[here], x[here], identity[here]
        draw = hashed(seed, identity[:, None], np.arange(6)[None])
        angle = 1.6 * self.flow.at(y, x) if population.aligned else draw[:, 1] * np.pi
        low, high = population.radius
        for i in np.argsort(draw[:, 0]).tolist():
            radius, elongation = low + (high - low) * draw[i, 2], 1 + 0.45 * draw[i, 3]
            phases = (float(draw[i, 4] * 2 * np.pi), float(draw[i, 5] * 2 * np.pi))
            yield Structure(float(y[i]), float(x[i]), float(radius), float(elongation), float(angle[i]), phases, index)

    def _at_home(self, y: np.ndarray, x: np.ndarray, population: Population) -> np.ndarray:
        home = [i for i, name in enumerate(self.recipe.territories) if name == population.territory]
        return np.isin(self._territory(y, x), home)

    def _on_plain_ground(self, structure: Structure, population: Population) -> bool:
        """Return whether its centre is in its own territory, and it and its surroundings are on the first ground."""
        if not self._at_home(np.array([structure.y]), np.array([structure.x]), population)[0]:
            return False
        angle = np.arange(_PROBES) * 2 * np.pi / _PROBES
        radius = structure.reach * np.array([[0.5], [1.0]]) + np.array([[0.0], [70.0]])
        radius = np.concatenate([radius, [[structure.reach + self.recipe.plain_surroundings]]])
        y, x = (structure.y + radius * np.sin(angle)).ravel(), (structure.x + radius * np.cos(angle)).ravel()
        return bool((self.ground(y, x) == 0).all())


class _Occupied:
    """The structures placed so far, in buckets of ``reach`` µm, the largest distance at which two can collide."""

    def __init__(self, reach: float) -> None:
        self._reach = reach
        self._buckets: dict[tuple[int, int], list[Structure]] = {}

    def add(self, structure: Structure) -> None:
        self._buckets.setdefault(self._key(structure), []).append(structure)

    def remove(self, structure: Structure) -> None:
        self._buckets[self._key(structure)].remove(structure)

    def free(self, structure: Structure, clearance: float) -> bool:
        """Return whether every structure placed so far is at least ``clearance`` µm away, outline to outline."""
        row, column = self._key(structure)
        return all(
            _gap(other, structure) >= clearance
            for i in (-1, 0, 1)
            for j in (-1, 0, 1)
            for other in self._buckets.get((row + i, column + j), [])
        )

    def _key(self, structure: Structure) -> tuple[int, int]:
        return int(structure.y // self._reach), int(structure.x // self._reach)


def _gap(one: Structure, other: Structure) -> float:
    """Return the µm between two outlines, exact (to the sampling of the outlines) if their circles are close."""
    circles = float(np.hypot(one.y - other.y, one.x - other.x)) - one.reach - other.reach
    if circles > _CLOSE:
        return circles
    a, b = one.outline, other.outline
    return float(np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2)).min())


def _with_neighbours(members: list[Structure], population: Population) -> list[int]:
    """Return the indices of members with enough neighbours of their own kind, repeated until none is removed."""
    kept = list(range(len(members)))
    while population.neighbours and kept:
        tree = cKDTree([(members[i].y, members[i].x) for i in kept])
        farthest = 3 * population.radius[1] + population.neighbour_gap
        enough = []
        for position, i in enumerate(kept):
            around = [kept[j] for j in tree.query_ball_point((members[i].y, members[i].x), farthest) if j != position]
            if sum(_gap(members[i], members[j]) <= population.neighbour_gap for j in around) >= population.neighbours:
                enough.append(i)
        if len(enough) == len(kept):
            break
        kept = enough
    return kept


def _in_blocks(kinds: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return kinds in a grid, filled along a path through 2 x 2 blocks, so that each deal of four is one block."""
    path = sorted(
        ((r, c) for r in range(rows) for c in range(columns)),
        key=lambda place: (place[0] // 2, place[1] // 2, place[0] % 2, place[1] % 2),
    )
    grid = np.zeros((rows, columns), dtype=np.int64)
    for (row, column), kind in zip(path, kinds, strict=False):
        grid[row, column] = kind
    return grid
