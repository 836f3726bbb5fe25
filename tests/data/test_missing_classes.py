"""Trainings on annotations that lack some of the scheme's classes."""

from __future__ import annotations

import logging
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import shapely
from PIL import Image

from common.annotations import AnnotatedRegion, write_geojson
from common.data import (
    ClassCycleSampler,
    MultiMagnificationPatchDataset,
    PatchesPerClass,
    PatchIndex,
    check_validation,
)
from common.data.class_weights import WEIGHTINGS
from common.slides import FieldOfView

VIEW = FieldOfView(0.5, 64)


@pytest.fixture
def entry(tmp_path, scheme):
    """A slide of 3 x 4 targets, one of which is carcinoma, another stroma."""
    Image.fromarray(np.full((192, 256, 3), 220, dtype=np.uint8)).save(tmp_path / "slide.png")
    regions = [AnnotatedRegion(1, shapely.box(64, 64, 128, 128)), AnnotatedRegion(4, shapely.box(128, 0, 192, 64))]
    write_geojson(tmp_path / "slide.geojson", regions, scheme)
    return {"image": str(tmp_path / "slide.png"), "label": str(tmp_path / "slide.geojson"), "mpp": 0.5}


def dataset(entry, scheme, **arguments):
    return MultiMagnificationPatchDataset([entry], scheme, [VIEW], VIEW, **arguments)


def test_missing_classes_of_a_training_are_named_in_one_warning(entry, scheme, caplog):
    with caplog.at_level(logging.INFO):
        data = dataset(entry, scheme, allow_missing=None, training=True)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [
        "no labelled pixel of benign epithelial, background, necrotic, adipose in the 1 training slides: the network "
        "will not learn them"
    ]
    assert data.annotated_classes() == ["carcinoma", "stroma"]
    for weighting in WEIGHTINGS:
        assert all(math.isfinite(weight) for weight in data.class_weights(weighting)), weighting


def test_missing_classes_of_what_is_only_scored_are_no_warning(entry, scheme, caplog):
    with caplog.at_level(logging.INFO):
        dataset(entry, scheme, allow_missing=None)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert "no labelled pixel of benign epithelial" in caplog.text


def test_a_training_with_a_single_class_is_refused(entry, scheme, tmp_path):
    write_geojson(tmp_path / "slide.geojson", [AnnotatedRegion(4, shapely.box(0, 0, 64, 64))], scheme)
    with pytest.raises(ValueError, match="stroma is the only class annotated in the 1 training slides.*second class"):
        dataset(entry, scheme, allow_missing=None, training=True)
    assert dataset(entry, scheme, allow_missing=None).annotated_classes() == ["stroma"]


def of_rows(**pixels: list[int]) -> SimpleNamespace:
    """A data set by the labelled pixels of its patches, any of whose classes may be missing."""
    index = PatchIndex(pd.DataFrame(pixels), tuple(pixels))
    shown = [name for name, counts in pixels.items() if any(counts)]
    return SimpleNamespace(index=index, allows_missing=lambda name: True, annotated_classes=lambda: shown)


def test_a_class_that_is_little_in_every_patch_still_takes_its_turn():
    data = of_rows(carcinoma=[1, 2, 0], stroma=[99, 98, 100], necrotic=[0, 0, 0])
    drawn = list(ClassCycleSampler(data, ["carcinoma", "necrotic", "stroma"], num_samples=20))
    assert set(drawn[::2]) == {0, 1}
    assert set(drawn[1::2]) == {0, 1, 2}


def test_validation_on_a_bounded_number_of_patches_shows_every_class():
    rows = {"carcinoma": [5] * 2 + [0] * 998, "stroma": [0, 7] + [9] * 998, "necrotic": [0] * 1000}
    chosen = PatchesPerClass(count=10, seed=3).apply(of_rows(**rows).index).rows
    assert list(chosen["carcinoma"]) == [5, 5] + [0] * (len(chosen) - 2)
    # Ten with stroma, one of which may be the second with carcinoma.
    assert (chosen["stroma"] > 0).sum() in (10, 11)
    assert len(chosen) in (11, 12)


def test_validation_without_a_class_of_the_training_is_refused(caplog):
    trained = of_rows(carcinoma=[1], stroma=[1], necrotic=[0])
    with pytest.raises(ValueError, match="training slides show carcinoma, stroma, the validation slides necrotic: no"):
        check_validation(trained, of_rows(carcinoma=[0], stroma=[0], necrotic=[1]))
    with pytest.raises(ValueError, match="the score counts stroma"):
        check_validation(trained, of_rows(carcinoma=[1], stroma=[0], necrotic=[0]), ["stroma"])
    with caplog.at_level(logging.WARNING):
        check_validation(trained, trained)
        assert caplog.text == ""
        check_validation(trained, of_rows(carcinoma=[0], stroma=[3], necrotic=[1]))
    assert "of the classes that are learnt, the validation slides show only stroma" in caplog.text
