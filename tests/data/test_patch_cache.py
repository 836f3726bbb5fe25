"""Packed patches are those that are read from the slides."""

from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import Compose, RandFlipd
from torch.utils.data import DataLoader

from common.data import Draw, LoadMultiMagnificationPatchd, MultiMagnificationPatchDataset, PatchCache
from common.slides import FieldOfView, SlideError
from common.transforms import ElasticDeformationd

VIEWS = [FieldOfView(1.0, 64), FieldOfView(2.0, 64)]


def make(phantom, scheme, folder=None, fill="black"):
    load = LoadMultiMagnificationPatchd("image", VIEWS, target=VIEWS[0], scheme=scheme, fill=fill)
    deform = ElasticDeformationd("image", VIEWS, VIEWS[0], extent=512.0, sigma=4.0)
    packed = PatchCache(folder, [load, deform], {"fill": fill}) if folder is not None else None
    return MultiMagnificationPatchDataset(
        [{"image": str(phantom.slide), "label": str(phantom.geojson)}],
        scheme,
        VIEWS,
        VIEWS[0],
        Compose([load, deform, RandFlipd(["image", "label"], prob=0.5)]),
        elastic_copies={"carcinoma": 1},
        class_priority=["carcinoma"],
        allow_missing=None,
        patch_cache=packed,
    )


def test_packed_patches_are_those_that_the_slides_give(phantom, scheme, tmp_path):
    plain, packed = make(phantom, scheme), make(phantom, scheme, tmp_path)
    assert len(packed) == len(plain) > 64
    assert (packed.index.rows["deformation"] >= 0).any()
    for position in range(0, len(plain), 7):
        draw = Draw(position, seed=position)
        for key in ("image", "label"):
            assert np.array_equal(np.asarray(plain[draw][key]), np.asarray(packed[draw][key]))
    draws = [Draw(position, seed=position) for position in range(0, len(plain), 7)]
    loader = DataLoader(packed, batch_size=1, sampler=draws, num_workers=1, collate_fn=lambda items: items[0]["image"])
    for draw, image in zip(draws, loader, strict=True):
        assert np.array_equal(np.asarray(image), np.asarray(plain[draw]["image"]))


def test_what_is_packed_is_not_packed_again_and_other_settings_are_packed_apart(phantom, scheme, tmp_path):
    make(phantom, scheme, tmp_path)
    (group,) = tmp_path.glob("*.zarr")
    before = group.stat().st_mtime_ns
    make(phantom, scheme, tmp_path)
    assert [path.stat().st_mtime_ns for path in tmp_path.glob("*.zarr")] == [before]
    make(phantom, scheme, tmp_path, fill="white")
    assert len(list(tmp_path.glob("*.zarr"))) == 2


def test_a_lost_file_of_packed_patches_is_an_error(phantom, scheme, tmp_path):
    dataset = make(phantom, scheme, tmp_path)
    next(path for path in tmp_path.rglob("image/c/*/*/*/*") if path.is_file()).unlink()
    with pytest.raises(SlideError, match=r"image has \d of its \d files.*Delete it"):
        dataset[0]


def test_a_damaged_packed_patch_is_an_error(phantom, scheme, tmp_path):
    dataset = make(phantom, scheme, tmp_path)
    shard = max((path for path in tmp_path.rglob("c/*/*/*/*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    content[1000] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(SlideError, match=r"\.zarr: packed patch \d+ cannot be read .*Delete it"):
        [dataset[position] for position in range(len(dataset))]
