"""The slide's right and lower edge, where a label pixel may lie on the slide in part only."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import tifffile
import torch
import zarr
from shapely.geometry import shape

from common.inference import InferenceOptions, WholeSlideInferer
from common.maps import TileGrid
from common.outputs.blocks import label_areas
from common.slides import FieldOfView
from tests.conftest import write_pyramid
from tests.outputs.test_sieve import store_of

EXACT = {"min_area": 0, "simplify": 0, "skip": []}
SHAPE, DARK = (1000, 904), 480
OUTPUTS = ("prediction.tif", "prediction.geojson", "summary.json", "probabilities.zarr", "entropy.tif")


class Brightness(torch.nn.Module):
    """Dark is carcinoma, bright benign epithelium; mixed with the white fill, either is yet another class."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = torch.nn.Parameter(torch.tensor([60.0, 101.0, 141.0]) / 255)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        channel = torch.bucketize(image[:, :3].mean(dim=1).contiguous(), self.edges)
        channel = torch.tensor([1, 3, 2, 4])[channel]
        return 20 * torch.nn.functional.one_hot(channel, 7).movedim(-1, 1).float()


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> str:
    """Of 1,000 x 904 pixels at 0.5 µm/px, the left 480 columns 40, the others 140."""
    image = np.full((*SHAPE, 3), 140, dtype=np.uint8)
    image[:, :DARK] = 40
    path = tmp_path_factory.mktemp("slide") / "s.tif"
    return str(write_pyramid(path, [image], (0.5, 0.5), lossless=True, tile=256))


def segmented(slide: str, folder, scheme, mpp: float, **options):
    view = FieldOfView(mpp, 16)
    run = WholeSlideInferer(
        [view],
        view,
        scheme,
        folder,
        OUTPUTS,
        fill="white",
        options=InferenceOptions(block=2, **options),
        polygons=EXACT,
    )
    run({"image": slide}, Brightness())
    return folder / "s", json.loads((folder / "s" / "summary.json").read_text())


# 500 x 452 µm: 62.5 x 56.5 pixels, 125 x 113, 33.3 x 30.1 and 16.7 x 15.1; the dark part is 240 µm wide.
@pytest.mark.parametrize("mpp", [8.0, 4.0, 15.0, 30.0])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_areas_are_those_of_the_polygons_and_of_the_slide(slide, scheme, tmp_path, mpp, overlap):
    folder, summary = segmented(slide, tmp_path, scheme, mpp, overlap=overlap)
    rows, columns, dark = math.floor(500 / mpp), math.floor(452 / mpp), round(240 / mpp)
    expected = {"carcinoma": rows * dark, "benign epithelial": rows * (columns - dark)}
    expected = {name: pixels * mpp**2 / 1e6 for name, pixels in expected.items()}
    assert {name: found["area_mm2"] for name, found in summary["classes"].items() if found["area_mm2"]} == (
        pytest.approx(expected, abs=1e-6)
    )
    outlined: dict[str, float] = {}
    for feature in json.loads((folder / "prediction.geojson").read_text())["features"]:
        name = feature["properties"]["classification"]["name"]
        outlined[name] = outlined.get(name, 0) + shape(feature["geometry"]).area * 0.5**2 / 1e6
    assert outlined == pytest.approx(expected, rel=1e-6)
    assert summary["not_predicted_share"] == pytest.approx(1 - sum(expected.values()) / (0.5 * 0.452), abs=2e-6)


def test_a_pixel_that_reaches_over_the_edge_is_not_predicted(slide, scheme, tmp_path):
    folder, _ = segmented(slide, tmp_path, scheme, 8.0)
    labels = tifffile.imread(folder / "prediction.tif")
    assert labels.shape == (63, 57)
    assert (labels[:62, :56] > 0).all()
    assert not labels[62:].any()
    assert not labels[:, 56:].any()
    assert np.array_equal(tifffile.imread(folder / "entropy.tif")[62:], np.zeros((1, 57)))
    probabilities = np.asarray(zarr.open_group(str(folder / "probabilities.zarr"), mode="r")["0"])
    assert not probabilities[:, 62:].any()
    assert not probabilities[:, :, 56:].any()


def test_every_pixel_is_predicted_where_they_fit_the_slide(slide, scheme, tmp_path):
    folder, summary = segmented(slide, tmp_path, scheme, 2.0)
    assert (tifffile.imread(folder / "prediction.tif") > 0).all()
    assert summary["not_predicted_share"] == 0


@pytest.mark.parametrize(
    ("pixel", "covered"), [(2.0, (500, 650)), (1.0, (1000, 1301)), (1.3010000000000002, (768, 1000))]
)
def test_the_covered_part_is_what_lies_wholly_on_the_slide(pixel, covered):
    grid = TileGrid((1000, 1301), (pixel, pixel), 64, 4)
    assert grid.covered == covered


@pytest.mark.parametrize("block", [2, 3, 8])
def test_areas_count_the_part_of_a_pixel_on_the_slide(tmp_path, block):
    """At 4 level-0 pixels to one, a slide of 10 x 15 has 2.5 x 3.75 pixels."""
    labels = np.array([[1, 1, 1, 1], [1, 2, 2, 1], [3, 3, 0, 5]], dtype=np.uint8)
    areas = label_areas(store_of(tmp_path, labels, block), TileGrid((10, 15), (4.0, 4.0), 8, 1))
    assert areas[:6].tolist() == [0.5, 3 + 0.75 + 1 + 0.75, 2, 1, 0, 0.5 * 0.75]
    assert areas.sum() == 150 / 16


def test_areas_of_blocks_that_were_never_written_belong_to_no_class(tmp_path):
    labels = np.zeros((3, 4), dtype=np.uint8)
    labels[0, 0] = 7
    areas = label_areas(store_of(tmp_path, labels, 2), TileGrid((10, 15), (4.0, 4.0), 8, 1))
    assert (areas[0], areas[7]) == (150 / 16 - 1, 1)
