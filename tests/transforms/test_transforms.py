"""Deformation and colour over several magnifications."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from common.slides import FieldOfView
from common.transforms import ElasticDeformationd, LogitsToLabelsd, RandColorPerViewd

VIEWS = [FieldOfView(0.5, 256), FieldOfView(1.0, 256), FieldOfView(2.0, 256)]


def smooth_world(view: FieldOfView) -> np.ndarray:
    """Two planes over the distance from the centre in µm: every view shows the same world at its own µm/px."""
    offset = (np.arange(view.size) + 0.5 - view.size / 2) * view.mpp
    row, column = np.meshgrid(offset, offset, indexing="ij")
    return np.stack([128 + row * 0.45, 128 + column * 0.45, np.full_like(row, 128)])


def deformed(seed: int = 3, sigma: float = 2.0) -> dict:
    image = np.concatenate([np.round(smooth_world(view)) for view in VIEWS]).astype(np.uint8)
    label = (smooth_world(VIEWS[0])[:1] > 128).astype(np.uint8) + 1
    transform = ElasticDeformationd("image", VIEWS, VIEWS[0], extent=512, sigma=sigma)
    return transform({"image": image, "label": label, "deformation": seed})


def test_all_views_show_the_same_deformed_tissue():
    image = deformed()["image"].astype(float)
    finest = image[:2].reshape(2, 128, 2, 128, 2).mean(axis=(2, 4))
    middle, coarse = image[3:5], image[6:8]
    # At its border a view is filled by reflection where the tissue moved in from outside.
    inner = (slice(None), slice(12, -12), slice(12, -12))
    assert np.abs(middle[:, 64:192, 64:192] - finest)[inner].max() <= 1.5
    halved = middle.reshape(2, 128, 2, 128, 2).mean(axis=(2, 4))
    assert np.abs(coarse[:, 64:192, 64:192] - halved)[inner].max() <= 2
    plain = np.concatenate([np.round(smooth_world(view)) for view in VIEWS])
    moved = (image - plain)[6:8] / 0.45 / 0.5
    # Displacements of sigma = 2 µm, 4 pixels of 0.5; interpolation between the points averages them somewhat.
    assert 2.0 < moved[:, 20:-20, 20:-20].std() < 5.0


def test_one_view_is_deformed_as_it_is_among_several():
    image = deformed()["image"]
    alone = ElasticDeformationd("image", VIEWS[:1], VIEWS[0], extent=512, sigma=2.0)
    plain = {"image": np.round(smooth_world(VIEWS[0])).astype(np.uint8), "label": np.ones((1, 256, 256), np.uint8)}
    assert np.array_equal(alone({**plain, "deformation": 3})["image"], image[:3])


def test_a_grid_smaller_than_what_is_seen_is_refused():
    with pytest.raises(ValueError, match="Set its extent"):
        ElasticDeformationd("image", VIEWS, VIEWS[0], extent=256, sigma=2.0)


def test_the_label_map_is_deformed_as_the_image_is():
    item = deformed()
    away_from_edge = np.abs(item["image"][0].astype(int) - 128) > 1
    assert np.array_equal((item["image"][0] > 128)[away_from_edge], (item["label"][0] == 2)[away_from_edge])
    assert set(np.unique(item["label"])) == {1, 2}


def test_deformations_repeat_by_seed_and_originals_stay():
    assert np.array_equal(deformed(5)["image"], deformed(5)["image"])
    assert not np.array_equal(deformed(5)["image"], deformed(6)["image"])
    plain = np.concatenate([np.round(smooth_world(view)) for view in VIEWS]).astype(np.uint8)
    assert np.array_equal(deformed(-1)["image"], plain)


def test_colour_changes_all_views_alike_or_each_by_itself():
    image = np.random.default_rng(0).integers(60, 200, (3, 16, 16)).astype(np.uint8)
    stack = np.concatenate([image] * 3)
    transform = RandColorPerViewd("image", prob=1.0, shared=False)
    transform.set_random_state(0)
    changed = transform({"image": stack})["image"]
    assert changed.shape == (9, 16, 16)
    assert changed.min() >= 0
    assert changed.max() <= 255
    assert not np.allclose(changed[:3], changed[3:6], atol=2)
    together = RandColorPerViewd("image", prob=1.0)
    together.set_random_state(0)
    same = together({"image": stack})["image"]
    assert np.allclose(same[:3], same[3:6])
    assert not np.allclose(same[:3], image, atol=2)


def test_brightness_and_contrast_are_what_they_say():
    image = np.stack([np.full((8, 8), value, dtype=np.uint8) for value in (100, 120, 140)])
    brighter = RandColorPerViewd("image", prob=1.0, brightness=0.1, contrast=(1, 1), hue=0, saturation=0)
    brighter.R = np.random.RandomState(0)
    shift = brighter({"image": image})["image"] - image
    assert np.allclose(shift, shift.flat[0], atol=1e-3)
    assert 0 < abs(shift.flat[0]) <= 25.5
    flat = RandColorPerViewd("image", prob=1.0, brightness=0, contrast=(0, 0), hue=0, saturation=0)
    assert np.allclose(flat({"image": image})["image"], 120, atol=1e-3)


def test_logits_become_the_schemes_labels(scheme):
    logits = torch.zeros(7, 2, 2)
    logits[0] = 5
    logits[4] = 1
    labels = LogitsToLabelsd("pred", scheme)({"pred": logits})["pred"]
    assert labels.dtype == torch.uint8
    assert labels.shape == (1, 2, 2)
    assert (labels == 4).all()
