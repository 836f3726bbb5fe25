"""Overlays merged into configs: the same result as MONAI's, with the comments kept."""

from __future__ import annotations

import pytest
import yaml
from monai.bundle import ConfigParser

from common.sharing.settings import merge_overlays, renamed
from tests.bundles.commands import configs_of
from tests.conftest import DMMN, REPOSITORY

BASE = """\
# What is trained.
epochs: 20 # the paper's
mpp: null # of all slides
row: model
network_def:
  _target_: common.networks.UNet
  channels: [8, 16] # widths
train:
  handlers:
    - {_target_: one}
    - {_target_: two}
checkpoint: $@bundle_root + '/models/model.pt'
"""


def test_values_change_and_comments_stay():
    found = merge_overlays(BASE, ["epochs: 3\nnetwork_def#channels: [4]\ntrain#handlers#1#_target_: three\n"])
    assert "# What is trained." in found
    assert "epochs: 3  # the paper's" in found
    assert "mpp: null # of all slides" in found
    assert "channels: [4]" in found
    assert "{_target_: three}" in found
    assert "{_target_: one}" in found


def test_later_overlays_win_and_plus_adds():
    found = merge_overlays(
        BASE, ["epochs: 3\n", "epochs: 4\n+train#handlers: [{_target_: four}]\n+network_def: {bias: 1}\n"]
    )
    content = yaml.safe_load(found)
    assert content["epochs"] == 4
    assert [handler["_target_"] for handler in content["train"]["handlers"]] == ["one", "two", "four"]
    assert content["network_def"]["bias"] == 1


def test_what_is_imported_is_added_to_and_only_where_there_are_imports():
    overlay = "imports: [$import math, $import torch]\nepochs: $math.pi\n"
    found = yaml.safe_load(merge_overlays("imports: [$import torch]\nepochs: 1\n", [overlay]))
    assert found["imports"] == ["$import torch", "$import math"]
    assert "imports" not in yaml.safe_load(merge_overlays(BASE, [overlay]))


def test_only_what_the_config_has_or_needs_is_taken():
    found = merge_overlays(BASE, ["size: 64\nunused: 1\nepochs: '@size'\ncheckpoint: models/demo.pt\nrow: demo\n"])
    assert "size: 64" in found
    assert "unused" not in found
    assert "demo" not in found


def test_an_overlay_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="train#validator#x"):
        merge_overlays(BASE, ["train#validator#x: 1\n"])
    with pytest.raises(ValueError, match="must be a YAML mapping"):
        merge_overlays(BASE, ["- 1\n"])
    with pytest.raises(ValueError, match="is not YAML"):
        merge_overlays(BASE, ["a: [1\n"])


@pytest.mark.parametrize("bundle", sorted((REPOSITORY / "bundles").glob("pathology_*")), ids=lambda path: path.name)
def test_every_small_network_gives_what_monai_gives(bundle):
    """Merged by MONAI at run time or by the export: the same network, classes and views."""
    small = (bundle / "configs" / "small.yaml").read_text()
    merged = ConfigParser(yaml.safe_load(merge_overlays((bundle / "configs" / "inference.yaml").read_text(), [small])))
    by_monai = ConfigParser(ConfigParser.load_config_files(configs_of(bundle, "inference.yaml", "small.yaml")))
    for key in ("fields_of_view", "target", "fill", "resample", "dtype"):
        assert merged.get_parsed_content(key) == by_monai.get_parsed_content(key)
    shapes = [
        {name: value.shape for name, value in parser.get_parsed_content("network_def").state_dict().items()}
        for parser in (merged, by_monai)
    ]
    assert shapes[0] == shapes[1]


def test_the_package_gets_another_name_wherever_it_is_named():
    text = (DMMN / "configs" / "train.yaml").read_text()
    assert "common." not in renamed(text)
    assert renamed(text).count("scripts.") == text.count("common.")
    assert renamed("# python -m common convert-released, in common use.") == (
        "# python -m common convert-released, in common use."
    )
