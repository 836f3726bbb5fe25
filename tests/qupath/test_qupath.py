"""Annotations survive a round trip through QuPath."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import mapping, shape

from common.annotations import AnnotatedRegion, read_annotations, write_geojson
from common.outputs.polygons import label_polygons
from common.phantom import BREAST
from common.slides import open_slide
from tests.conftest import REPOSITORY, write_pyramid

HERE = Path(__file__).parent
SCRIPT = REPOSITORY / "docs" / "qupath" / "multimag.groovy"


def as_qupath_exports(path: Path, out: Path) -> None:
    """The same objects as QuPath writes them: single-precision corners, its own ids and properties, several polygons of
    a class as one object."""
    features = json.loads(path.read_text())["features"]
    for number, feature in enumerate(features):
        feature["id"] = f"00000000-0000-0000-0000-{number:012d}"
        feature["properties"] |= {"objectType": "annotation", "isLocked": True, "name": "predicted"}
        geometry = mapping(shape(feature["geometry"]))
        rounded = json.loads(json.dumps(geometry), parse_float=lambda text: float(np.float32(text)))
        feature["geometry"] = {**rounded, "type": geometry["type"]}
    out.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def test_a_label_map_comes_back_pixel_for_pixel(tmp_path):
    draw = np.random.default_rng(3)
    labels = np.kron(draw.integers(0, 7, (24, 30), dtype=np.uint8), np.ones((5, 4), np.uint8))
    labels[20:60, 30:70] = 2
    labels[30:50, 40:60] = 4  # a hole in a region, with another region in it
    labels[35:45, 45:55] = 0
    mpp = 1 / 3  # corners that single precision cannot hold
    slide_path = write_pyramid(tmp_path / "slide.tif", [np.full((360, 360, 3), 200, np.uint8)], (mpp, mpp))
    with open_slide(slide_path) as slide:
        regions = [
            AnnotatedRegion(label, polygon)
            for label, polygons in label_polygons(labels).items()
            for polygon in (shape({**mapping(one), **_scaled(one)}) for one in polygons)
        ]
        write_geojson(tmp_path / "prediction.geojson", regions, BREAST.scheme)
        as_qupath_exports(tmp_path / "prediction.geojson", tmp_path / "slide.geojson")
        source = read_annotations(tmp_path / "slide.geojson", BREAST.scheme)
        found = source.label_map(slide, (180.0, 180.0), slide.mpp * 3, (120, 120))
    assert np.array_equal(found, labels)


def _scaled(polygon) -> dict:
    """Label map pixels are three of the slide's a side."""
    return {"coordinates": [[(3 * x, 3 * y) for x, y in ring] for ring in mapping(polygon)["coordinates"]]}


def groovy(folder: Path, mode: str) -> dict:
    if shutil.which("groovy") is None:
        pytest.skip("Groovy is not installed here")
    command = ["groovy", str(HERE / "run.groovy"), str(SCRIPT), str(HERE / "stand_in.groovy"), str(folder), mode]
    # Debian's Groovy looks for Java where not every package puts it.
    java = Path(shutil.which("java") or "java").resolve().parent.parent
    env = {"JAVA_HOME": str(java), **os.environ}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=env)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    return {"printed": done.stdout, **json.loads(line.removeprefix("RESULT "))}


def square(x: int, y: int, **properties) -> dict:
    ring = [[x, y], [x + 10, y], [x + 10, y + 10], [x, y + 10], [x, y]]
    kept = {"classification": {"name": "stroma"}, **properties}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": kept}


@pytest.mark.all
def test_the_script_imports_a_folder_of_results_once_and_keeps_what_was_drawn(tmp_path):
    (tmp_path / "drawn.json").write_text(json.dumps(square(1, 2)))
    for name in ("a", "b", "b.1", "c", "e", "f"):
        (tmp_path / name).mkdir()
        # "b" is another slide.
        content = {"type": "FeatureCollection", "features": [square(7 if name == "b" else 400, 90)]}
        if name == "f":
            content = {"type": "FeatureCollection", "multimag": {"origin": "slide"}, **content}
        (tmp_path / name / "prediction.geojson").write_text(json.dumps(content))
    found = groovy(tmp_path, "import")
    for name in ("a.svs", "b.1.ome.tif - Series 0"):
        assert found[name] == {"saved": True, "objects": [[None, False, [1, 2]], ["predicted", True, [400, 90]]]}
    # Cropped by QuPath to what was scanned.
    assert found["c.mrxs"]["objects"][1] == ["predicted", True, [100, 50]]
    assert found["e.bif"]["objects"][1] == ["predicted", True, [400, -110]]
    assert found["f.mrxs"]["objects"][1] == ["predicted", True, [400, 90]]
    assert found["d.svs"] == {"saved": False, "objects": [[None, False, [1, 2]]]}
    assert "5 of 6 images: imported" in found["printed"]
    assert "left out: d.svs: no " in found["printed"]


@pytest.mark.all
def test_the_script_moves_no_polygons_that_count_from_the_bounds(tmp_path, scheme):
    (tmp_path / "drawn.json").write_text(json.dumps(square(1, 2)))
    regions = [AnnotatedRegion(4, shape(square(400, 290)["geometry"]))]
    for name, origin, corner in (("c", "bounds", (40, 300)), ("e", "slide", (0, 0))):
        (tmp_path / name).mkdir()
        write_geojson(tmp_path / name / "prediction.geojson", regions, scheme, origin, corner)
    found = groovy(tmp_path, "import")
    # On the slide both are at 400, 290. QuPath shows c from 300, 40 on, and e from 0, 200 on.
    assert found["c.mrxs"]["objects"][1][2] == [100, 250]
    assert found["e.bif"]["objects"][1][2] == [400, 90]


@pytest.mark.all
def test_the_script_exports_what_training_reads(tmp_path):
    (tmp_path / "drawn.json").write_text(json.dumps(square(1, 2)))
    groovy(tmp_path, "export")
    corners = {}
    for path in tmp_path.glob("*.geojson"):
        content = json.loads(path.read_text())
        assert content["multimag"] == {"origin": "slide"}
        (feature,) = content["features"]
        corners[path.stem] = feature["geometry"]["coordinates"][0][0]
    whole = {name: [1, 2] for name in ("a", "b.1", "d", "f")}
    assert corners == {**whole, "c": [301, 42], "e": [1, 202]}
