"""Commands that draw what networks and augmentations make of a data set."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from monai.transforms import Compose, OneOf
from PIL import Image

from common.classes import ClassScheme
from common.maps.grid import TileGrid
from common.maps.store import MapStore
from common.outputs.confidence import heat_colors, write_confidence
from common.reports.augmentation import _hue_saturation, _ranges, always, single_transforms
from common.reports.features import embedded, encoder_features
from common.slides import open_slide
from common.transforms import RandColorPerViewd, RandDeformd, RandGammad, RandNoised, Rotation, Shear
from tests.bundles.commands import run_common


@pytest.fixture(scope="module")
def datalist(phantom, tmp_path_factory):
    """One phantom, said to be of two scanners."""
    entry = {"image": str(phantom.slide), "label": str(phantom.labels)}
    sections = {"training": [{**entry, "scanner": "A"}], "validation": [{**entry, "scanner": "B"}]}
    sections["unlabelled"] = [{"image": entry["image"], "scanner": "B"}]
    # Without a label an entry for testing is no use, and the other sections are.
    sections["testing"] = [{"image": entry["image"], "scanner": "A"}]
    path = tmp_path_factory.mktemp("list") / "datalist.json"
    path.write_text(json.dumps(sections))
    return path


def test_features_are_means_over_the_deepest_map():
    class Encoder(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [image, image[:, :2, ::2, ::2] * 255]

    images = [np.full((3, 8, 8), value, np.uint8) for value in range(11)]
    found = encoder_features(Encoder(), images)
    assert np.allclose(found, np.arange(11)[:, None].repeat(2, axis=1), atol=1e-4)


def test_two_dimensions_keep_what_is_apart_apart():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (30, 20)), rng.normal(6, 1, (30, 20))])
    places, method = embedded(features)
    assert places.shape == (60, 2)
    assert method in ("UMAP", "PCA")
    near = np.linalg.norm(places[:30] - places[:30].mean(axis=0), axis=1).max()
    assert np.linalg.norm(places[:30].mean(axis=0) - places[30:].mean(axis=0)) > near


def test_the_command_draws_features_by_column(datalist, tmp_path, capsys):
    overlay = tmp_path / "small.json"
    overlay.write_text(json.dumps({"encoder": "efficientnet-b0", "fine_mpp": 2.0, "size": 64}))
    few = ["--config", overlay, "--patches", 6]
    printed = run_common("features", datalist, "--output", tmp_path, "--by", "scanner", *few)
    assert "silhouette" in printed
    with (tmp_path / "features.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["scanner"] for row in rows] == ["A"] * 6 + ["B"] * 12 + ["A"] * 6
    assert Image.open(tmp_path / "features.png").size[0] > 300
    run_common("features", datalist, "--output", tmp_path / "resnet", "--encoder", "resnet18", "--by", "scanner", *few)
    assert (tmp_path / "resnet" / "features.png").exists()
    for option, value, message in (
        ("--by", "stain", "no column 'stain'"),
        ("--module", "encoder", "no part 'encoder'; there are coarse_encoder"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run_common("features", datalist, "--config", overlay, option, value, "--output", tmp_path)
        assert message in capsys.readouterr().err


def test_every_transform_within_others_is_found_and_done_every_time():
    inner = [RandNoised("image", 0.1), RandColorPerViewd("image", 0.2)]
    view = [{"mpp": 0.5, "size": 64}]
    deform = RandDeformd("image", view, view, [Rotation(prob=0.4), Shear(prob=0.5)])
    available = {"one": RandGammad("image", 0.3), "several": OneOf([Compose(inner[:1]), inner[1]]), "none": Compose([])}
    found = dict(single_transforms({**available, "deform": deform}))
    assert list(found) == [
        *("one", "several: RandNoised", "several: RandColorPerViewd", "deform: Rotation", "deform: Shear")
    ]
    assert always(found["deform: Shear"]).deformations == [Shear(prob=1.0)]
    assert deform.deformations == [Rotation(prob=0.4), Shear(prob=0.5)]
    assert always(inner[0]).prob == 1.0
    assert always(inner[1]).each == 1.0
    # What is used elsewhere stays as it was.
    assert (inner[0].prob, inner[1].each) == (0.1, 0.2)


def test_hues_are_measured_around_the_circle_and_grey_left_out():
    red = [np.full((3, 14, 14), np.array(color)[:, None, None], np.uint8) for color in ((200, 20, 30), (200, 30, 20))]
    grey = np.full((3, 14, 14), 128, np.uint8)
    values = _hue_saturation([*red, grey])
    assert len(values) == 2 * 28
    ranges = _ranges(values)
    assert min(ranges["mean hue"], 360 - ranges["mean hue"]) < 2
    assert ranges["hue range"] < 10
    assert ranges["saturation 5 %"] == pytest.approx(255 * 0.9, abs=2)


def test_the_command_draws_augmentations(datalist, tmp_path):
    overlay = tmp_path / "small.json"
    overlay.write_text(json.dumps({"size": 64, "fine_mpp": 2.0}))
    printed = run_common("augmentations", datalist, "--output", tmp_path, "--config", overlay, "--patches", 6)
    assert "saturation range" in printed
    with (tmp_path / "hue_saturation.csv").open() as file:
        original, augmented = list(csv.DictReader(file))
    assert float(augmented["hue range"]) > float(original["hue range"])
    sheet = np.asarray(Image.open(tmp_path / "augmentations.png"))
    assert sheet.shape[0] > 20 * 192


def test_the_distribution_of_classes_is_said_by_column_and_section(datalist, phantom, tmp_path):
    columns = ["inspect", datalist, "--output", tmp_path, "--by", "scanner", "--patches", 1]
    printed = run_common(*columns, check=False)
    assert "contact_sheet" in printed
    with (tmp_path / "distribution.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["value"], row["section"], row["slides"]) for row in rows] == [
        ("A", "training", "1"),
        ("B", "unlabelled", "1"),
        ("B", "validation", "1"),
    ]
    areas = [float(rows[0][name]) for name in rows[0] if name.endswith("mm²")]
    assert sum(areas) == pytest.approx((3072 * 0.5e-3) ** 2, rel=0.02)
    assert (tmp_path / "distribution.png").exists()


def test_confidence_is_heat_where_a_class_is_probable_and_the_slide_elsewhere(phantom, tmp_path):
    scheme = ClassScheme(
        [{"name": name, "color": (0, 0, 0), "label": i + 1, "channel": i} for i, name in enumerate(("one", "other"))]
    )
    with open_slide(phantom.slide) as slide:
        grid = TileGrid(slide.shape, slide.level0_pixels(4.0), 64, 2)
        store = MapStore(tmp_path / "store", (2, 384, 384), 128)
        probabilities = np.zeros((2, 384, 384), np.uint8)
        probabilities[0, :192] = 255
        probabilities[1, 192:] = 255
        store.write(0, 0, probabilities)
        write_confidence(tmp_path / "confidence.png", slide, store, grid, scheme)
    shown = np.asarray(Image.open(tmp_path / "confidence.png")).astype(float)
    # Pictures of 384 pixels under a title of 23, 8 apart; the first is the slide.
    slide, one, other = (shown[23:407, left : left + 384] for left in (0, 392, 784))
    grey = slide.mean(axis=2, keepdims=True).repeat(3, axis=2)
    hot = 0.25 * grey + 0.75 * heat_colors()[255]
    for picture, sure, unlikely in ((one, slice(0, 192), slice(192, 384)), (other, slice(192, 384), slice(0, 192))):
        assert np.abs(picture[sure] - hot[sure]).max() <= 1.5
        assert np.abs(picture[unlikely] - grey[unlikely]).max() <= 1.5
