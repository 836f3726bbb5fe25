"""Areas with holes as pieces without."""

from __future__ import annotations

import numpy as np
import shapely
from shapely.geometry import Polygon

from common.annotations.regions import without_holes


def test_a_ring_is_cut_into_pieces_of_the_same_area():
    ring = shapely.box(0, 0, 10, 10).difference(shapely.box(3, 3, 7, 7))
    pieces = list(without_holes(ring))
    assert len(pieces) == 2
    assert all(not piece.interiors for piece in pieces)
    assert sum(piece.area for piece in pieces) == 84
    assert shapely.union_all(pieces).equals(ring)


def test_many_holes_one_in_another_s_reach():
    draw = np.random.default_rng(0)
    holes = [shapely.box(x, y, x + 3, y + 2) for x in range(2, 90, 9) for y in range(2, 90, 7)]
    sheet = shapely.box(0, 0, 100, 100).difference(shapely.union_all(holes))
    sheet = sheet.difference(shapely.box(*(draw.random(2) + 50), 53, 54))
    pieces = list(without_holes(sheet))
    assert all(isinstance(piece, Polygon) and not piece.interiors for piece in pieces)
    assert shapely.union_all(pieces).symmetric_difference(sheet).area < 1e-9
    # Pieces do not cover each other.
    assert np.isclose(sum(piece.area for piece in pieces), sheet.area)


def test_thousands_of_holes_are_no_deeper_than_a_few_cuts():
    sieve = np.full((120, 120), True)
    sieve[1:-1:2, 1:-1:2] = False
    cells = [shapely.box(x, y, x + 1, y + 1) for y, x in np.argwhere(~sieve)]
    sheet = shapely.box(0, 0, 120, 120).difference(shapely.union_all(cells))
    assert len(sheet.interiors) == 59**2
    assert sum(piece.area for piece in without_holes(sheet)) == 120**2 - 59**2
