"""Outlines without holes cover what the polygons covered."""

from __future__ import annotations

import json

import numpy as np
import shapely
from shapely.geometry import Polygon, mapping

from common.label_app.polygons import annotation, without_holes


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


def test_a_prediction_is_handed_on_by_class(scheme, tmp_path):
    def feature(shape, name):
        return {
            "type": "Feature",
            "geometry": mapping(shape),
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }

    shapes = [feature(shapely.box(0, 0, 4, 5), "stroma"), feature(shapely.box(9, 9, 10, 10), "carcinoma")]
    path = tmp_path / "prediction.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": shapes}))
    found = annotation(path, scheme, min_area=2)
    assert [element["label"] for element in found["elements"]] == ["stroma"]
    (contour,) = found["elements"][0]["contours"]
    assert sorted(map(tuple, contour)) == [(0, 0), (0, 5), (4, 0), (4, 5)]
    assert found["labels"]["carcinoma"] == [220, 40, 40]
    assert len(annotation(path, scheme)["elements"]) == 2
