"""Random scale and place of slices: on ramps, of which every pixel says where it comes from."""

from __future__ import annotations

import numpy as np
import pytest

from common.transforms import RandScaledSliced

SIDE = 200


def ramps() -> dict[str, np.ndarray]:
    """A slice whose red is the row and green the column, a tile whose red is its row, and labels of 20 x 20 pixels."""
    at = (np.arange(SIDE) + 0.5).astype(np.float32)
    rows, columns = np.meshgrid(at, at, indexing="ij")
    image = np.stack([rows, columns, rows * 0, 2 * rows, columns * 0, rows * 0])
    labels = (1 + (rows // 20 + columns // 20) % 4).astype(np.uint8)
    return {"image": image, "label": labels[None]}


def drawn(seed: int, **settings) -> dict[str, np.ndarray]:
    transform = RandScaledSliced(size=100, shortest=120, **settings)
    transform.set_random_state(seed)
    return transform(ramps())


def test_the_piece_is_a_square_of_the_slice_at_one_scale_and_the_tile_stays_whole():
    scales = []
    for seed in range(60):
        found = drawn(seed)["image"]
        assert found.shape == (6, 100, 100)
        inner = found[:2, 4:-4, 4:-4]
        down, across = np.diff(inner[0], axis=0), np.diff(inner[1], axis=1)
        # Pixels of the slice per pixel of the piece.
        step = float(down.mean())
        assert abs(down - step).max() < 0.2 * step
        assert across.mean() == pytest.approx(step, rel=1e-2)
        assert inner[:2].min() >= 0
        assert inner[:2].max() <= SIDE
        scales.append(1 / step)
        # Two pixels of what was read for one of the tile.
        assert np.allclose(found[3, :, 7], 2 * (2 * np.arange(100) + 1), atol=1e-3)
    assert min(scales) == pytest.approx(0.6, abs=0.01)
    assert max(scales) > 0.93
    # Of the factors from 0.5 to 1 one in five is below 0.6, which is as small as it gets.
    assert 0.05 < np.mean(np.array(scales) < 0.61) < 0.4


def test_labels_are_those_of_the_piece():
    for seed in range(20):
        found = drawn(seed)
        rows, columns = found["image"][0], found["image"][1]
        expected = 1 + (rows // 20 + columns // 20) % 4
        # Off the borders of the squares, where a pixel is of one of them.
        clear = (np.abs(rows % 20 - 10) < 8) & (np.abs(columns % 20 - 10) < 8)
        clear[:4] = clear[-4:] = clear[:, :4] = clear[:, -4:] = False
        assert found["label"].dtype == np.uint8
        assert (found["label"][0] == expected)[clear].all()


def test_a_seed_draws_the_same_again_and_another_something_else():
    assert np.array_equal(drawn(3)["image"], drawn(3)["image"])
    assert not np.array_equal(drawn(3)["image"], drawn(4)["image"])


def test_a_slice_alone_and_one_that_is_too_small():
    transform = RandScaledSliced(size=100, shortest=120)
    data = ramps()
    assert transform({**data, "image": data["image"][:3]})["image"].shape == (3, 100, 100)
    small = {"image": data["image"][:, :110, :110], "label": data["label"][:, :110, :110]}
    with pytest.raises(ValueError, match="slices of 110 pixels were read, pieces come from at least 120"):
        transform(small)
    with pytest.raises(ValueError, match="a piece of 500 pixels cannot be cut from slices of 400"):
        RandScaledSliced(size=500, shortest=400)
