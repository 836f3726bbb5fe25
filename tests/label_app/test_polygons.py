"""A prediction as MONAI Label's writers take it."""

from __future__ import annotations

import json

import shapely
from shapely.geometry import mapping

from common.label_app.polygons import annotation


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
