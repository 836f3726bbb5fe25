"""The pixels of a window that lie in an outline, checked by shapely's predicates and exact areas."""

from __future__ import annotations

import time

import numpy as np
import pytest
import shapely
import shapely.affinity
from PIL import Image

from common.annotations import AnnotatedRegion, Annotations
from common.annotations.raster import OutlineRaster
from common.slides import open_slide

CARCINOMA, STROMA = 1, 4


def painted(outline, top=0.0, left=0.0, height=30, width=30, down=1.0, across=1.0):
    labels = np.zeros((height, width), dtype=np.uint8)
    OutlineRaster(outline).paint(labels, 1, (top, left), (down, across))
    return labels == 1


def centres_within(outline, top, left, height, width, down, across):
    shapely.prepare(outline)
    y, x = top + (np.arange(height) + 0.5) * down, left + (np.arange(width) + 0.5) * across
    return shapely.intersects_xy(outline, *np.meshgrid(x, y))


def nucleus(rng, decimals):
    """An ellipse of 12 to 40 corners."""
    angle = np.linspace(0, 2 * np.pi, rng.integers(12, 40), endpoint=False)
    long, short, turn = *rng.uniform(5, 10, 2), rng.uniform(0, np.pi)
    x, y = long * np.cos(angle), short * np.sin(angle)
    turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1)
    return shapely.make_valid(shapely.Polygon((15 + turned).round(decimals)))


def sieve(rng):
    """A ragged outline of many corners, holes and parts."""
    angle = np.linspace(0, 2 * np.pi, rng.integers(200, 600), endpoint=False)
    reach = 60 + 25 * np.sin(angle * rng.integers(3, 30)) + rng.uniform(0, 6, len(angle))
    body = shapely.Polygon(np.stack([100 + reach * np.cos(angle), 90 + reach * np.sin(angle)], axis=1)).buffer(0)
    holes = [
        shapely.Point(*place).buffer(r)
        for place, r in zip(rng.uniform(20, 170, (12, 2)), rng.uniform(1, 15, 12), strict=True)
    ]
    parts = [
        shapely.Point(*place).buffer(r)
        for place, r in zip(rng.uniform(0, 190, (12, 2)), rng.uniform(1, 6, 12), strict=True)
    ]
    return shapely.union_all([body.difference(shapely.union_all(holes)), *parts])


def test_random_areas_with_holes_and_parts_hold_the_centres_that_shapely_says():
    rng = np.random.default_rng(1)
    for _ in range(15):
        outline = sieve(rng)
        raster = OutlineRaster(outline)
        for _ in range(20):
            down, across = rng.uniform(0.3, 8, 2)
            height, width = rng.integers(1, 60, 2)
            top, left = rng.uniform(-30, 190, 2)
            labels = np.zeros((height, width), dtype=np.uint8)
            raster.paint(labels, 3, (top, left), (down, across))
            expected = centres_within(outline, top, left, height, width, down, across)
            assert np.array_equal(labels, expected * 3)


@pytest.mark.parametrize("decimals", [0, 2])
def test_pixels_of_nuclei_are_those_that_are_at_least_half_inside(decimals):
    """Corners at whole pixels lead outlines through pixel centres and halve these pixels."""
    rng = np.random.default_rng(2)
    agree = affected = halved = 0
    y, x = np.mgrid[:30, :30]
    pixels = shapely.box(x, y, x + 1, y + 1)
    for _ in range(40):
        outline = nucleus(rng, decimals)
        share = shapely.area(shapely.intersection(pixels, outline))
        border = (share > 1e-9) & (share < 1 - 1e-9)
        agree += ((painted(outline) == (share >= 0.5 - 1e-9)) & border).sum()
        affected += border.sum()
        halved += (np.abs(share - 0.5) < 1e-9).sum()
    assert agree / affected >= 0.994
    assert (halved > 0.2 * affected) == (decimals == 0)


def test_centres_on_the_outline_are_inside_whichever_way_it_runs():
    # Corners on centres, sides along rows, columns and diagonals.
    diamond = shapely.Polygon([(10.5, 2.5), (18.5, 10.5), (10.5, 18.5), (2.5, 10.5)])
    assert np.array_equal(painted(diamond), centres_within(diamond, 0, 0, 30, 30, 1, 1))
    assert painted(diamond).sum() == 8**2 + 9**2
    box = shapely.box(3.5, 4.5, 9.5, 7.5)
    assert painted(box).sum() == 7 * 4
    # What bounds a hole is of the area around it.
    ring = shapely.box(0, 0, 12, 12).difference(shapely.box(3.5, 3.5, 8.5, 8.5))
    assert painted(ring).sum() == 144 - 4 * 4


def test_neighbours_that_meet_on_centres_leave_no_pixel_out_and_the_later_one_has_them(tmp_path):
    Image.fromarray(np.full((20, 20, 3), 200, dtype=np.uint8)).save(tmp_path / "slide.png")
    corners = [(0, 0), (20, 0), (20, 20), (0, 20)]
    upper, lower = shapely.Polygon([*corners[:3]]), shapely.Polygon([corners[0], *corners[2:]])
    with open_slide(tmp_path / "slide.png", mpp=0.5) as slide:
        for first, second in ((upper, lower), (lower, upper)):
            labels = Annotations([AnnotatedRegion(CARCINOMA, first), AnnotatedRegion(STROMA, second)]).label_map(
                slide, (10, 10), 0.5, 20
            )
            assert (np.diagonal(labels) == STROMA).all()
            assert (labels == STROMA).sum() == 210
            assert (labels == CARCINOMA).sum() == 190


def touching_nuclei(rng, side):
    """Outlines as those of a nucleus data set: 8 to 30 pixels wide, corners anywhere, most with a border in common."""
    outlines: list[shapely.Geometry] = []
    for wide, high, turn in zip(
        rng.uniform(8, 30, 360), rng.uniform(8, 30, 360), rng.uniform(0, 180, 360), strict=True
    ):
        shape = shapely.affinity.scale(shapely.Point(0, 0).buffer(0.5, int(rng.integers(4, 10))), wide, high)
        shape = shapely.affinity.rotate(shape, turn)
        for place in rng.uniform(15, side - 15, (60, 2)):
            whole = shapely.affinity.translate(shape, *place)
            free = whole.difference(shapely.union_all([one for one in outlines if one.intersects(whole)]))
            # A cut one stays a nucleus.
            if isinstance(free, shapely.Polygon) and free.area > 0.8 * whole.area:
                outlines.append(free)
                break
    return outlines


def areas_in_pixels(outlines, side, step):
    """Each outline's share of every pixel, as a picture of the sum, and which pixels meet a bounding box."""
    y, x = np.mgrid[:side:step, :side:step]
    pixels = shapely.box(x, y, x + step, y + step)
    shares, near = np.zeros(pixels.shape), np.zeros(pixels.shape, dtype=bool)
    for outline in outlines:
        left, top, right, bottom = (np.array(outline.bounds) / step).astype(int)
        around = np.s_[top : bottom + 1, left : right + 1]
        shares[around] += shapely.area(shapely.intersection(pixels[around], outline)) / step**2
        near[around] = True
    return shares, near


@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_labels_of_hundreds_of_touching_nuclei_are_those_of_most_of_each_pixel(tmp_path, mpp):
    """Compared are the pixels within the outlines' bounding boxes, and the masks of the nuclei by their IoU."""
    side, step = 400, int(mpp / 0.25)
    Image.fromarray(np.full((side, side, 3), 200, dtype=np.uint8)).save(tmp_path / "slide.png")
    outlines = touching_nuclei(np.random.default_rng(6), side)
    assert len(outlines) > 300
    met = shapely.STRtree(outlines).query(outlines, predicate="dwithin", distance=1e-6)
    assert (met[0] < met[1]).sum() > 200
    one, other = (areas_in_pixels(outlines[start::2], side, step) for start in (0, 1))
    shares, near = np.stack([1 - one[0] - other[0], one[0], other[0]]), one[1] | other[1]
    classes = np.array([0, STROMA, CARCINOMA])[shares.argmax(axis=0)]
    nuclei = shares[0] <= 0.5
    labels = [CARCINOMA if number % 2 else STROMA for number in range(len(outlines))]
    with open_slide(tmp_path / "slide.png", mpp=0.25) as slide:
        annotations = Annotations(map(AnnotatedRegion, labels, outlines))

        def found(shift):
            return annotations.label_map(slide, (side / 2 + shift, side / 2 + shift), mpp, side // step)

        def agreement(shift):
            masks = found(shift) > 0
            return (masks == nuclei)[near].mean(), (masks & nuclei).sum() / (masks | nuclei).sum()

        right, overlap = agreement(0)
        assert right >= 0.994
        assert (found(0) == classes)[near].mean() >= 0.994
        assert overlap >= (0.997 if step == 1 else 0.99)
        # Half a pixel off is far from that.
        assert max(agreement(step / 2)) < 0.97


def test_windows_agree_on_centres_that_lie_on_the_outline(tmp_path):
    Image.fromarray(np.full((60, 60, 3), 200, dtype=np.uint8)).save(tmp_path / "slide.png")
    rng = np.random.default_rng(3)
    with open_slide(tmp_path / "slide.png", mpp=0.5) as slide:
        for _ in range(10):
            outline = shapely.transform(nucleus(rng, 0), lambda xy: xy * 2)
            annotations = Annotations([AnnotatedRegion(STROMA, outline)])
            whole = annotations.label_map(slide, (30, 30), 1.0, 30)
            for top, left, height, width in rng.integers((0, 0, 1, 1), (20, 20, 11, 11), (20, 4)).tolist():
                piece = annotations.label_map(slide, (2 * top + height, 2 * left + width), 1.0, (height, width))
                assert np.array_equal(piece, whole[top : top + height, left : left + width])


def test_windows_on_an_outline_of_a_million_points_take_seconds_together():
    angle = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
    reach = 9000 + 2000 * np.sin(angle * 300) + np.random.default_rng(0).uniform(0, 0.02, len(angle))
    outline = shapely.Polygon(np.stack([12000 + reach * np.cos(angle), 12000 + reach * np.sin(angle)], axis=1))
    before = time.process_time()
    raster = OutlineRaster(outline)
    windows = np.zeros((64, 256, 256), dtype=np.uint8)
    # Through the ragged border, where the sides are.
    at = 12000 + 9000 * np.stack([np.sin(np.arange(64)), np.cos(np.arange(64))], axis=1)
    for labels, place in zip(windows, at, strict=True):
        raster.paint(labels, 1, tuple(place), (1.0, 1.0))
    assert time.process_time() - before < 5
    shapely.prepare(outline)
    for labels, place in list(zip(windows, at, strict=True))[::16]:
        rows, columns = np.arange(0, 256, 15), np.arange(0, 256, 15)
        expected = shapely.intersects_xy(outline, *np.meshgrid(place[1] + columns + 0.5, place[0] + rows + 0.5))
        assert np.array_equal(labels[np.ix_(rows, columns)], expected)
    assert 0 < windows.mean() < 1
