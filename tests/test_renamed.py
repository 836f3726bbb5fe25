"""Names of the previous version lead to those of today, with a word."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser

import common.data
import common.transforms
from common import networks
from common.renamed import MODULES, NAMES


def resolved(path: str):
    return ConfigParser({"it": f"$__import__('pydoc').locate('{path}')"}).get_parsed_content("it")


def test_a_config_with_a_moved_module_runs_and_is_told_the_new_name():
    config = ConfigParser(
        {"handler": {"_target_": "common.handlers.GradientClipping", "network": None, "max_norm": 1.0}}
    )
    with pytest.warns(FutureWarning, match=r"common\.handlers\.GradientClipping is now common\.training\.Grad"):
        handler = config.get_parsed_content("handler")
    assert type(handler).__module__ == "common.training.handlers"


def test_a_class_that_moved_is_found_in_the_room_that_had_it():
    with pytest.warns(FutureWarning, match=r"common\.data\.NormalizeStainsd"):
        found = common.transforms.NormalizeStainsd
    assert found is common.data.NormalizeStainsd


@pytest.mark.parametrize("old", NAMES)
def test_every_renamed_name_exists(old):
    with pytest.warns(FutureWarning):
        assert resolved(f"common.{old}") is not None


@pytest.mark.parametrize("old", MODULES)
def test_every_moved_module_is_found(old):
    module = __import__(f"common.{old}", fromlist=["x"])
    assert module.__spec__.name == f"common.{old}"
    with pytest.raises(AttributeError):
        getattr(module, "nothing_of_this_name")  # noqa: B009


def test_a_name_that_never_was_is_an_error_as_ever():
    with pytest.raises(AttributeError, match="RandNothingd"):
        getattr(common.transforms, "RandNothingd")  # noqa: B009
    with pytest.raises(ModuleNotFoundError):
        __import__("common.nothing")


@pytest.mark.parametrize(
    ("name", "channels"), [("UNet", 3), ("SegNet", 3), ("DMMNS2", 3), ("MRN", 2), ("EncoderDecoder", 2)]
)
def test_a_config_with_num_classes_builds_the_same_network_and_is_told_the_new_line(name, channels):
    config = ConfigParser(
        {"network": {"_target_": f"common.networks.{name}", "num_classes": 2, "channels": [4, 5, 6, 7]}}
    )
    with pytest.warns(FutureWarning, match=f"{name}: num_classes is now out_channels; write out_channels: {channels}"):
        network = config.get_parsed_content("network")
    assert network(torch.rand(1, 3 * len(network.mpp_ratios), 128, 128)).shape[1] == channels


def test_num_classes_next_to_its_new_name_is_refused():
    with pytest.raises(ValueError, match="DMMNM3: num_classes is now out_channels. Remove num_classes"):
        networks.DMMNM3(num_classes=6, out_channels=7)
