"""Augmentations that several views of one patch share."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
from monai.transforms import Compose

from common.data import LoadMultiMagnificationPatchd
from common.phantom import BREAST
from common.slides import FieldOfView
from common.transforms import (
    ElasticWarp,
    GridStretch,
    OpticalDistortion,
    RandCenterJitterd,
    RandCLAHEd,
    RandColorPerViewd,
    RandDeformd,
    RandEmbossd,
    RandGammad,
    RandGaussianBlurd,
    RandGlassBlurd,
    RandMotionBlurd,
    RandNoised,
    RandPCAColord,
    RandTargetedHSVd,
    Rotation,
    Scaling,
    SelectTransforms,
    Shear,
    Translation,
)
from tests.transforms.test_transforms import smooth_world

VIEWS = [FieldOfView(0.5, 256), FieldOfView(2.0, 256)]
TARGETS = [VIEWS[0], VIEWS[1]]
DEFORMATIONS = [Rotation, Shear, Scaling, Translation, ElasticWarp, GridStretch, OpticalDistortion]
every_deformation = pytest.mark.parametrize("deformation", DEFORMATIONS)
SLOPE = 0.45


def world() -> dict:
    """Planes over the distance from the centre; labels say on which side of the middle a pixel is."""
    image = np.concatenate([np.clip(np.round(smooth_world(view)), 0, 255) for view in VIEWS]).astype(np.uint8)
    labels = np.stack([1 + (smooth_world(view)[0] > 128) for view in TARGETS]).astype(np.uint8)
    return {"image": image, "label": labels}


def always(deformation, seed: int = 1) -> RandDeformd:
    return RandDeformd("image", VIEWS, TARGETS, [deformation(prob=1.0)]).set_random_state(seed)


def offsets(image: np.ndarray) -> np.ndarray:
    """µm from the centre that a pixel of the finest view shows, ``(2, H, W)``."""
    return (image[:2].astype(float) - 128) / SLOPE


@every_deformation
def test_views_and_labels_show_the_same_deformed_tissue(deformation):
    item = always(deformation)(world())
    assert (item["image"] != world()["image"])[[0, 1, 3, 4]].mean() > 0.3
    fine, coarse = item["image"][:2].astype(float), item["image"][3:5].astype(float)
    means = fine.reshape(2, 64, 4, 64, 4).mean(axis=(2, 4))
    # Where the fine view shows tissue that it had; its labels are bare elsewhere.
    had = item["label"][0].reshape(64, 4, 64, 4).min(axis=(1, 3)) > 0
    assert had.mean() > 0.3
    assert np.abs(coarse[:, 96:160, 96:160] - means)[:, had].max() <= 2
    for target, pixels in enumerate((fine[0], coarse[0])):
        labels = item["label"][target]
        sure = (labels > 0) & (np.abs(pixels - 128) > 2)
        assert np.array_equal((pixels > 128)[sure], (labels == 2)[sure])


def test_a_patch_is_turned_by_the_angle_and_enlarged_by_the_factor_that_was_drawn():
    for deformation, wanted in (
        (partial(Rotation, degrees=40), lambda m: np.allclose(m @ m.T, np.eye(2), atol=0.02)),
        (partial(Scaling, scale=(1.25, 1.25)), lambda m: np.allclose(m, np.eye(2) / 1.25, atol=0.02)),
        (partial(Shear, shear=0.3), lambda m: abs(np.linalg.det(m) - 1) < 0.02),
    ):
        shown = offsets(always(deformation)(world())["image"])[:, 64:192, 64:192]
        at = offsets(world()["image"])[:, 64:192, 64:192].reshape(2, -1)
        matrix = np.linalg.lstsq(at.T, shown.reshape(2, -1).T, rcond=None)[0].T
        assert wanted(matrix), matrix
        assert not np.allclose(matrix, np.eye(2), atol=0.02)


def test_what_a_view_did_not_show_is_unlabelled_and_not_black():
    item = always(partial(Translation, shift=60.0), seed=3)(world())
    bare = item["label"][0] == 0
    assert 0.05 < bare.mean() < 0.8
    assert item["image"].min() > 0
    # The coarse view had it.
    assert (item["label"][1] == 0).mean() < bare.mean()


def test_several_deformations_in_one_resampling_are_the_same_as_one_after_the_other():
    deformations = [Rotation(prob=1.0), Translation(shift=10.0, prob=1.0), ElasticWarp(prob=1.0)]
    for seed in range(3):
        together = RandDeformd("image", VIEWS, TARGETS, deformations)
        streams = np.random.RandomState(seed)
        together, apart = together.set_random_state(seed)(world()), world()
        for deformation in deformations:
            alone = RandDeformd("image", VIEWS, TARGETS, [deformation])
            apart = alone.set_random_state(int(streams.randint(2**31)))(apart)
        both = (together["label"][0] > 0) & (apart["label"][0] > 0)
        assert both.mean() > 0.5
        difference = np.abs(together["image"][:3].astype(int) - apart["image"][:3])[:, both]
        assert np.percentile(difference, 99) <= 2


def test_a_seed_gives_the_same_patch_again():
    chain = Compose([RandDeformd("image", VIEWS, TARGETS, [deformation() for deformation in DEFORMATIONS])])
    made = []
    for seed in (5, 5, 6):
        chain.set_random_state(seed)
        made.append(chain(world())["image"])
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def stained(*colours) -> np.ndarray:
    """Two equal views with a square of 9 pixels of each colour."""
    squares = np.repeat(np.array(colours, dtype=np.uint8), 9, axis=0)
    view = np.repeat(squares[:, None], 16, axis=1).transpose(2, 0, 1)
    return np.concatenate([view, view])


# The last is background as a bluish scanner shows it.
GLASS, EOSIN, BROWN, BLUE, TINTED = (242, 243, 241), (226, 160, 190), (140, 95, 60), (105, 115, 175), (198, 204, 232)


def test_only_brown_and_blue_nuclei_change_each_by_its_own_draw_within_table_6():
    image = stained(GLASS, EOSIN, BROWN, BLUE, TINTED)
    transform = RandTargetedHSVd("image", prob=1.0)
    shifts: dict[str, list[np.ndarray]] = {"brown": [], "blue": []}
    before = cv2.cvtColor(np.array([[BROWN, BLUE]], dtype=np.uint8), cv2.COLOR_RGB2HSV)[0].astype(int)
    for seed in range(200):
        transform.set_random_state(seed)
        changed = transform({"image": image})["image"]
        assert np.array_equal(changed[:3], changed[3:])
        # The middle of each square: borders are soft.
        squares = changed[:3, 4::9, 0].T
        assert [tuple(squares[i]) for i in (0, 1, 4)] == [GLASS, EOSIN, TINTED]
        after = cv2.cvtColor(squares[None, 2:4].copy(), cv2.COLOR_RGB2HSV)[0].astype(int)
        for name, difference in zip(shifts, after - before, strict=True):
            shifts[name].append(difference)
    for name, saturation, value in (("brown", (-30, 81), (-80, 81)), ("blue", (-40, 61), (-60, 61))):
        found = np.array(shifts[name])
        for axis, (low, high) in enumerate((saturation, value), start=1):
            # HSV of 8 bits is not exact there and back.
            assert found[:, axis].min() == pytest.approx(low, abs=6)
            assert high - 10 <= found[:, axis].max() <= high + 4
    assert abs(np.corrcoef(np.array(shifts["brown"])[:, 2], np.array(shifts["blue"])[:, 2])[0, 1]) < 0.25


def test_haematoxylin_and_eosin_nuclei_are_told_from_eosin_and_dark_brown_stays_brown():
    purple, pink, dark = (96, 62, 130), (214, 130, 178), (38, 20, 14)
    image = stained(GLASS, pink, purple, dark)
    transform = RandTargetedHSVd("image", prob=1.0)
    for seed in range(40):
        transform.set_random_state(seed)
        glass, eosin, nucleus, brown = transform({"image": image})["image"][:3, 4::9, 0].T.astype(int)
        assert (tuple(glass), tuple(eosin)) == (GLASS, pink)
        assert tuple(nucleus) != purple
        # Red first, blue last, however bright.
        assert brown[0] >= brown[1] >= brown[2]


def test_what_lies_around_the_fine_view_tells_whether_all_of_it_is_stained():
    """A fine view within one nucleus, in a coarse view of glass, tinted stroma and the nucleus."""
    fine = np.full((3, 32, 32), np.array((140, 120, 170))[:, None, None], np.uint8)
    coarse = np.full((3, 32, 32), 242, np.uint8)
    coarse[:, 6:26, 6:26] = np.array(TINTED)[:, None, None]
    coarse[:, 12:20, 12:20] = fine[:, :8, :8]
    transform = RandTargetedHSVd("image", prob=1.0)
    transform.set_random_state(1)
    changed = transform({"image": np.concatenate([fine, coarse])})["image"]
    assert (changed[:3] != fine).any(axis=0).all()
    assert np.array_equal(changed[:3, 16, 16], changed[3:, 16, 16])
    elsewhere = np.ones((32, 32), dtype=bool)
    elsewhere[12:20, 12:20] = False
    assert np.array_equal(changed[3:][:, elsewhere], coarse[:, elsewhere])


def test_a_patch_without_nuclei_stays_as_it_is():
    image = stained(GLASS, EOSIN, TINTED)
    assert np.array_equal(RandTargetedHSVd("image", prob=1.0)({"image": image})["image"], image)


ONCE = [
    RandTargetedHSVd,
    RandGammad,
    RandCLAHEd,
    RandPCAColord,
    RandEmbossd,
    partial(RandColorPerViewd, hue=180.0, shared=True),
]


@pytest.mark.parametrize("transform", ONCE)
def test_what_is_drawn_for_a_patch_is_done_to_each_of_its_views(transform):
    rng = np.random.default_rng(0)
    view = np.clip(rng.normal(stained(EOSIN, BROWN, BLUE)[:3], 20), 0, 255).astype(np.uint8)
    made = transform("image", prob=0.7)
    differs = 0
    for seed in range(30):
        made.set_random_state(seed)
        changed = np.asarray(made({"image": np.concatenate([view, view])})["image"])
        assert np.array_equal(changed[:3], changed[3:])
        differs += np.abs(changed[:3].astype(float) - view).mean() > 0.5
    assert differs > 10


@pytest.mark.parametrize("transform", [RandPCAColord, partial(RandColorPerViewd, hue=0.0, saturation=0.0, shared=True)])
def test_the_same_tissue_has_the_same_colour_in_views_that_show_more_or_less_around_it(transform):
    tissue = np.full((3, 16, 16), np.array(BLUE)[:, None, None], np.uint8)
    coarse = np.random.default_rng(0).integers(60, 240, (3, 16, 16)).astype(np.uint8)
    coarse[:, 4:12, 4:12] = tissue[:, :8, :8]
    made = transform("image", prob=1.0)
    for seed in range(5):
        made.set_random_state(seed)
        changed = np.asarray(made({"image": np.concatenate([tissue, coarse])})["image"])
        assert np.array_equal(changed[:3, 8, 8], changed[3:, 8, 8])


def test_folding_deformations_are_refused():
    with pytest.raises(ValueError, match="tissue would fold, not 0.2"):
        OpticalDistortion(limit=0.2)
    with pytest.raises(ValueError, match="tissue would fold, not 1"):
        GridStretch(limit=1)


def test_augmentations_are_chosen_by_name_and_done_in_the_order_in_which_they_are_available():
    available = {"a": RandNoised("image"), "b": RandGammad("image"), "c": RandCLAHEd("image")}
    assert [type(t) for t in SelectTransforms(available, ["c", "a"]).transforms] == [RandNoised, RandCLAHEd]
    with pytest.raises(ValueError, match="no augmentation d; there are a, b, c"):
        SelectTransforms(available, ["a", "d"])


def spot(mpp: float, half: int = 40) -> np.ndarray:
    """A square of ``half`` µm a side, white on black, in a view of 128 pixels."""
    view = np.zeros((3, 128, 128), np.uint8)
    reach = round(half / 2 / mpp)
    view[:, 64 - reach : 64 + reach, 64 - reach : 64 + reach] = 255
    return view


def widening(before: np.ndarray, after: np.ndarray, mpp: float) -> float:
    """Variance in µm² that a spot gained, both axes together."""
    at = (np.arange(128) + 0.5 - 64) * mpp

    def variance(view: np.ndarray) -> float:
        weight = view[0].astype(float)
        return sum((weight.sum(axis=1 - axis) * at**2).sum() / weight.sum() for axis in (0, 1))

    return variance(after) - variance(before)


@pytest.mark.parametrize(
    ("transform", "variance"),
    [
        (partial(RandGaussianBlurd, sigma=(3.0, 3.0)), 2 * 9.0),
        # A line of 12 µm, evenly.
        (partial(RandMotionBlurd, length=(12.0, 12.0)), 12.0**2 / 12),
        # Even over 8 µm along both axes, and two blurs of 0.3 · 4 µm.
        (partial(RandGlassBlurd, reach=(4.0, 4.0)), 2 * (8.0**2 / 12 + 2 * 1.2**2)),
    ],
)
def test_blur_is_as_wide_on_the_slide_in_every_view(transform, variance):
    views = [FieldOfView(0.5, 128), FieldOfView(1.0, 128)]
    image = np.concatenate([spot(view.mpp) for view in views])
    made = transform("image", views, prob=1.0)
    made.set_random_state(1)
    changed = made({"image": image})["image"]
    found = [widening(image[i : i + 3], changed[i : i + 3], v.mpp) for i, v in ((0, views[0]), (3, views[1]))]
    assert found == pytest.approx([variance, variance], rel=0.15)


def test_noise_has_the_standard_deviation_that_was_asked_and_is_each_views_own():
    made = RandNoised("image", prob=1.0, sigma=(8.0, 8.0))
    made.set_random_state(0)
    noise = made({"image": np.full((6, 128, 128), 128, np.uint8)})["image"].astype(float) - 128
    assert noise.std(axis=(1, 2)) == pytest.approx([8.0] * 6, rel=0.03)
    assert np.abs(np.corrcoef(noise.reshape(6, -1))[~np.eye(6, dtype=bool)]).max() < 0.05


def test_gamma_leaves_black_and_white_and_moves_grey_as_its_power():
    made = RandGammad("image", prob=1.0, gamma=(2.0, 2.0))
    pixels = np.array([0, 128, 255], np.uint8)[None, None].repeat(3, axis=0)
    assert made({"image": pixels})["image"][0, 0].tolist() == [0, pytest.approx(255 * (128 / 255) ** 2, abs=1), 255]


def test_a_deform_without_deformations_is_refused():
    with pytest.raises(ValueError, match="RandDeformd needs at least one deformation"):
        RandDeformd("image", VIEWS, TARGETS, [])


def test_with_probability_0_nothing_changes():
    item = world()
    deform = RandDeformd("image", VIEWS, TARGETS, [Rotation(prob=0.0), Shear(prob=0.0)])
    for transform in (RandNoised("image", 0.0), deform, RandCenterJitterd(9, 0.0)):
        assert transform(item)["image"] is item["image"]
        assert transform(item).keys() == item.keys()


def test_jitter_reads_patch_and_labels_somewhere_else_on_the_slide(phantom):
    load = LoadMultiMagnificationPatchd(
        "image", VIEWS, target=VIEWS[0], scheme=BREAST.scheme, auxiliary_targets=VIEWS[1:]
    )
    item = {"image": str(phantom.slide), "label": str(phantom.labels)}
    moved = load({**item, "center": (1500.0, 1500.0), "offset": (30.0, -12.0)})
    there = load({**item, "center": (1560.0, 1476.0)})
    assert np.array_equal(moved["image"], there["image"])
    assert np.array_equal(moved["label"], there["label"])
    assert moved["label"].shape == (2, 256, 256)
    # The second label map is that of the coarse view: its middle is the first one, a quarter as large.
    assert (moved["label"][1, 96:160, 96:160] == moved["label"][0, 2::4, 2::4]).mean() > 0.98
    jitter = RandCenterJitterd(20.0, prob=1.0)
    jitter.set_random_state(0)
    drawn = np.array([jitter(item)["offset"] for _ in range(300)])
    assert np.abs(drawn).max() == pytest.approx(20, abs=0.5)
    assert np.abs(drawn).max() <= 20
