"""The metadata next to a checkpoint are read, used for their own file only, and compared with a config."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import replace

import pytest

from common.networks.checkpoint_metadata import (
    CheckpointMetadata,
    metadata_content,
    metadata_path,
    read_checkpoint_metadata,
)
from common.slides import FieldOfView

VIEWS = [{"mpp": 1.0, "size": 256, "anchor": "center"}, {"mpp": 4.0, "size": 256, "anchor": "tile"}]
WEIGHTS = b"weights"
KNOWN = CheckpointMetadata(
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    bundle="my_bundle",
    overlays=["demo.yaml", "ablations/unet.yaml"],
    network="UNet",
    fields_of_view=VIEWS,
    target={"mpp": 1.0, "size": 256, "anchor": "center"},
    classes=["tumour", "normal"],
    trained_on="12 H&E slides at 0.5 µm/px.",
    synthetic=False,
    stains=["H&E"],
    slides=12,
)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(WEIGHTS)
    metadata_path(path).write_text(json.dumps({**metadata_content(KNOWN), "of a later version": 1}))
    return path


def test_metadata_lie_next_to_the_checkpoint_and_are_read_as_written(checkpoint):
    assert metadata_path(checkpoint).name == "model.json"
    assert read_checkpoint_metadata(checkpoint) == KNOWN
    metadata_path(checkpoint).unlink()
    assert read_checkpoint_metadata(checkpoint) is None


def test_metadata_of_another_file_are_not_used(checkpoint, caplog):
    checkpoint.write_bytes(b"other weights")
    with caplog.at_level(logging.WARNING):
        assert read_checkpoint_metadata(checkpoint) is None
    (said,) = caplog.messages
    assert "model.json describes another file than model.pt, and is not used" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"sha256": "ab', "no JSON that can be read"),
        ("[1]", "no JSON object"),
        ("{}", "without sha256"),
        ('{"sha256": "a", "fields_of_view": [{"mpp": 0}]}', "fields_of_view is"),
        ('{"sha256": "a", "classes": "tumour"}', 'classes is "tumour"'),
        ('{"sha256": "a", "synthetic": "no"}', 'synthetic is "no"'),
        ('{"sha256": "a", "slides": true}', "slides is true"),
        ('{"sha256": "a", "overlays": [1]}', "overlays is"),
        ('{"sha256": "a", "bundle": 3}', "bundle is 3"),
        ('{"sha256": "a", "target": {"mpp": 1.0}}', "target is"),
    ],
)
def test_damaged_metadata_are_one_line_that_names_the_file_and_what_to_do(checkpoint, text, match):
    metadata_path(checkpoint).write_text(text)
    with pytest.raises(ValueError, match=match) as failure:
        read_checkpoint_metadata(checkpoint)
    assert str(failure.value).startswith(str(metadata_path(checkpoint)))
    assert str(failure.value).endswith("Delete it, or copy it again from where the checkpoint is from")
    assert "\n" not in str(failure.value)


def test_the_note_says_what_the_weights_were_trained_on():
    assert KNOWN.note == "Weights trained on 12 H&E slides at 0.5 µm/px."
    assert replace(KNOWN, trained_on="CAMELYON16, CC0").note == "Weights trained on: CAMELYON16, CC0."
    assert replace(KNOWN, trained_on=None).note is None
    assert replace(KNOWN, synthetic=True).note == (
        "These weights were trained on synthetic slides only: they show how the tool works, not what the tissue is."
    )


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        ({}, None),
        ({"fields_of_view": VIEWS, "target": KNOWN.target, "classes": KNOWN.classes}, None),
        # Objects, the default anchor, more digits and other sizes are the same views.
        ({"fields_of_view": [FieldOfView(1.0, 512), FieldOfView(4.0001, 512, "tile")]}, None),
        ({"target": {"mpp": 1, "size": 64}}, None),
        (
            {"fields_of_view": [{"mpp": 0.5, "size": 256}, {"mpp": 2.0, "size": 256, "anchor": "tile"}]},
            "was trained with views at 1, 4 µm/px, the config says 0.5, 2",
        ),
        ({"fields_of_view": [{"mpp": 1, "size": 256}]}, "was trained with views at 1, 4 µm/px, the config says 1"),
        (
            {"fields_of_view": [{"mpp": 1, "size": 256}, {"mpp": 4, "size": 256}]},
            "was trained with its view at 4 µm/px anchored to the tile, the config says center",
        ),
        ({"target": {"mpp": 0.5, "size": 256}}, "was trained to predict at 1 µm/px, the config says 0.5"),
        (
            {"classes": ["normal", "tumour"]},
            "was trained with the classes tumour, normal, the config says normal, tumour",
        ),
    ],
)
def test_what_differs_from_a_config_is_named(given, difference):
    assert KNOWN.difference(**given) == difference


def test_the_remedy_names_the_overlays_else_the_bundle():
    assert KNOWN.remedy == "Add the overlays it was trained with: --config demo.yaml,ablations/unet.yaml"
    assert replace(KNOWN, overlays=["demo.yaml"]).remedy == "Add the overlay it was trained with: --config demo.yaml"
    assert "bundle my_bundle and no overlay" in replace(KNOWN, overlays=[]).remedy
    assert replace(KNOWN, overlays=[], bundle=None).remedy is None
