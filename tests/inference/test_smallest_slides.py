"""Slides of a pixel or a line, and slides of nothing but glass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from common.inference import InferenceOptions, WholeSlideInferer
from common.outputs.scale_bar import draw_scale_bar
from common.outputs.writer import OUTPUTS
from tests.conftest import write_pyramid
from tests.inference.test_resume import VIEW, Stepwise

_OUTPUTS = tuple(name for name in OUTPUTS if name != "prediction.dcm")


def segmented(
    folder: Path, scheme, shape: tuple[int, int], value: int, tissue: bool, **entry
) -> tuple[dict, Path, Stepwise]:
    slide = write_pyramid(folder / "s.tif", [np.full((*shape, 3), value, np.uint8)], (0.5, 0.5), lossless=True)
    options = InferenceOptions(batch_size=4, block=2)
    given = {"tissue": tissue, "options": options, "only_regions": "regions" in entry}
    inferer = WholeSlideInferer([VIEW], VIEW, scheme, folder / "out", _OUTPUTS, **given)
    result = inferer({"image": str(slide), **entry}, network := Stepwise())
    inferer.finish()
    return result, folder / "out" / "s", network


@pytest.mark.parametrize("shape", [(1, 1), (1, 130), (130, 1), (2, 3)])
def test_a_slide_of_a_line_has_all_outputs(scheme, tmp_path, shape):
    # Of the middle grey 127 / 255, the nearest of the network's brightnesses is that of label 3, 0.5.
    result, out, _ = segmented(tmp_path, scheme, shape, 127, tissue=False)
    labels = tifffile.imread(out / "prediction.tif").reshape(shape)
    assert (labels == labels.flat[0]).all()
    assert labels.flat[0] > 0
    name = next(c.name for c in scheme.classes if c.label == labels.flat[0])
    assert result["classes"][name]["share"] == 1
    assert result["classes"][name]["area_mm2"] == pytest.approx(shape[0] * shape[1] * 0.25e-6, abs=1e-6)
    assert result["not_predicted_share"] == 0
    assert {path.name for path in out.iterdir()} == set(_OUTPUTS)
    for picture in ("overlay.png", "confidence.png"):
        with Image.open(out / picture) as image:
            image.load()
    assert json.loads((out / "prediction.geojson").read_text())["type"] == "FeatureCollection"


def test_of_a_slide_of_nothing_but_glass_nothing_is_left_out_unseen(scheme, tmp_path):
    """Without contrast no one can tell glass from tissue: all of it is predicted."""
    result, out, _ = segmented(tmp_path, scheme, (200, 200), 255, tissue=True)
    assert result["not_predicted_share"] == 0
    assert len(np.unique(tifffile.imread(out / "prediction.tif"))) == 1


def test_a_slide_with_nothing_to_predict_has_outputs_without_classes(scheme, tmp_path):
    result, out, network = segmented(tmp_path, scheme, (200, 200), 255, tissue=True, regions=[])
    assert network.calls == 0
    assert not tifffile.imread(out / "prediction.tif").any()
    assert json.loads((out / "prediction.geojson").read_text())["features"] == []
    assert result["not_predicted_share"] == 1
    assert all(found == {"area_mm2": 0.0, "share": None} for found in result["classes"].values())
    with Image.open(out / "overlay.png") as image:
        # The slide without colours, left of the scale bar.
        assert (np.asarray(image.convert("RGB"))[:150, :100] == 255).all()


@pytest.mark.parametrize(
    ("width", "height", "drawn"), [(1, 1, False), (400, 10, False), (14, 400, False), (400, 300, True)]
)
def test_a_scale_bar_is_drawn_where_there_is_room(width, height, drawn):
    picture = Image.new("RGB", (width, height), "gray")
    draw_scale_bar(picture, 0.5, 13)
    assert (len(np.unique(np.asarray(picture))) > 1) == drawn
