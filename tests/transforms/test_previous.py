"""Deformations change no pixel of what the previous version's geometric transforms made, whatever their names."""

from __future__ import annotations

import hashlib
import warnings

import numpy as np
import pytest
from monai.bundle import ConfigParser

from common import transforms
from common.transforms import RandDeformd, Rotation, Scaling, Shear, Translation

VIEWS = [{"mpp": 0.5, "size": 64}, {"mpp": 2.0, "size": 64}]
# Name of the previous version -> today's, and the digest of what it made of the patch with seeds 0 to 7.
SINGLE = {
    "RandRotated": ("Rotation", "b723af37ad80cf07"),
    "RandSheard": ("Shear", "3b105fd777c81ed7"),
    "RandRescaled": ("Scaling", "b000ce7fbde63a28"),
    "RandShifted": ("Translation", "3dcff22c71f7ea07"),
    "RandElasticd": ("ElasticWarp", "08f65376023ceda2"),
    "RandGridDistortiond": ("GridStretch", "81c71189475c266c"),
    "RandOpticalDistortiond": ("OpticalDistortion", "4469789580f6f647"),
}
# Of all seven in this order, and of the four of the multi-level U-Net's training.
ALL, FOUR = "d9ea7dd822eec081", "b41f0b8ad74805dc"
ONE_IN_A_CHAIN = "8afd2e8e90cd4fd2"


def digest(transform) -> str:
    """The digest of two patches for each of eight seeds, images and labels."""
    rng, found = np.random.default_rng(0), hashlib.sha256()
    patch = {
        "image": rng.integers(0, 256, (6, 64, 64), dtype=np.uint8),
        "label": rng.integers(0, 5, (2, 64, 64), dtype=np.uint8),
    }
    for seed in range(8):
        transform.set_random_state(seed)
        for _ in range(2):
            item = transform(patch)
            found.update(item["image"].tobytes() + item["label"].tobytes())
    return found.hexdigest()[:16]


def previous(name: str, **arguments):
    """A transform by its old name, as a config of the previous version makes it."""
    if name != "DeformOnced":
        arguments = {"keys": "image", "fields_of_view": VIEWS, "targets": VIEWS, **arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        parser = ConfigParser({"it": {"_target_": f"common.transforms.{name}", **arguments}})
        return parser.get_parsed_content("it")


@pytest.mark.parametrize(("old", "new", "wanted"), [(old, *rest) for old, rest in SINGLE.items()])
def test_one_deformation_draws_the_numbers_of_the_former_transform(old, new, wanted):
    assert digest(RandDeformd("image", VIEWS, VIEWS, [getattr(transforms, new)()])) == wanted
    assert digest(previous(old)) == wanted


def test_several_deformations_are_those_of_the_former_chain_in_one_resampling():
    every = [getattr(transforms, new)() for new, _ in SINGLE.values()]
    assert digest(RandDeformd("image", VIEWS, VIEWS, every)) == ALL
    assert digest(previous("DeformOnced", transforms=[previous(old) for old in SINGLE])) == ALL
    four = [Rotation(45, prob=0.4), Scaling((0.8, 1.25), prob=0.4), Shear(0.15, prob=0.2), Translation(16, prob=0.2)]
    assert digest(RandDeformd("image", VIEWS, VIEWS, four)) == FOUR


def test_a_chain_of_one_transform_has_random_numbers_of_its_own_as_before():
    assert digest(previous("DeformOnced", transforms=[previous("RandRotated")])) == ONE_IN_A_CHAIN


def test_the_former_arguments_are_understood_by_place_and_by_name():
    with pytest.warns(FutureWarning, match=r"is now common\.transforms\.RandDeformd with transforms\.GridStretch"):
        placed = transforms.RandGridDistortiond("image", VIEWS, VIEWS, 0.1, 32.0, 0.2, "mask")
    named = previous("RandGridDistortiond", prob=0.1, spacing=32.0, limit=0.2, label_key="mask")
    assert placed.deformations == named.deformations == [transforms.GridStretch(32.0, 0.2, prob=0.1)]
    assert placed.label_key == named.label_key == "mask"
    with pytest.warns(FutureWarning), pytest.raises(TypeError, match="spaces"):
        transforms.RandGridDistortiond("image", VIEWS, VIEWS, spaces=32.0)
