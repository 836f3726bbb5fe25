"""A training says next to its checkpoint what the weights are for."""

from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import CheckpointSaver

from common import __version__
from common.files import sha256
from common.networks import UNet
from common.networks.checkpoint_metadata import read_checkpoint_metadata
from common.phantom import BREAST
from common.training.checkpoint_metadata import CheckpointMetadataWriter
from tests.conftest import DMMN

VIEWS = [{"mpp": 0.5, "size": 256}, {"mpp": 2.0, "size": 256}]


def writer(folder, data, **more):
    given = {"network": UNet(channels=(2, 4, 6, 8, 10)), "scheme": BREAST.scheme, "fields_of_view": VIEWS}
    given |= {"target": VIEWS[0], "bundle_root": DMMN, "overlays": ["small.yaml"]}
    return CheckpointMetadataWriter(folder / "model.pt", data=data, **{**given, **more})


def entries(*columns):
    return [{"image": f"{number}.svs", **more} for number, more in enumerate(columns)]


def test_the_json_is_written_whenever_the_best_checkpoint_is(tmp_path):
    network, scores = UNet(channels=(2, 4, 6, 8, 10)), iter([0.5, 0.4, 0.9])
    validator = Engine(lambda engine, batch: None)

    @validator.on(Events.EPOCH_COMPLETED)
    def _score(engine):
        engine.state.metrics["val"] = next(scores)
        engine.state.key_metric_name = "val"

    save = {"save_key_metric": True, "key_metric_name": "val", "key_metric_filename": "model.pt"}
    CheckpointSaver(str(tmp_path), {"model": network}, **save).attach(validator)
    writer(tmp_path, entries({}), network=network).attach(validator)
    found = []
    for _ in range(3):
        with torch.no_grad():
            next(network.parameters()).add_(1)
        validator.run([0])
        found.append((sha256(tmp_path / "model.pt"), (tmp_path / "model.json").stat().st_mtime_ns))
        assert read_checkpoint_metadata(tmp_path / "model.pt").sha256 == found[-1][0]
    # The second validation is worse: neither file is touched.
    assert found[0] == found[1]
    assert found[1][0] != found[2][0]
    assert {path.name for path in tmp_path.iterdir()} == {"model.pt", "model.json"}


def test_it_holds_what_a_training_knows(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    two_regions = {"image": "0.svs", "stain": "H&E", "synthetic": False}
    data = [two_regions, two_regions, *entries({}, {"stain": "HER2", "synthetic": False})[1:]]
    writer(tmp_path, data)(Engine(lambda engine, batch: None))
    said = json.loads((tmp_path / "model.json").read_text())
    assert said == {
        "sha256": sha256(tmp_path / "model.pt"),
        "bundle": DMMN.name,
        "overlays": ["small.yaml"],
        "network": "UNet",
        "fields_of_view": [{**view, "anchor": "center"} for view in VIEWS],
        "target": {**VIEWS[0], "anchor": "center"},
        "classes": ["carcinoma", "benign epithelial", "background", "stroma", "necrotic", "adipose"],
        "trained_on": "2 H&E and HER2 slides at 0.5 and 2 µm/px.",
        "synthetic": False,
        "stains": ["H&E", "HER2"],
        "slides": 2,
        "multimag": __version__,
    }


@pytest.mark.parametrize(
    ("columns", "synthetic", "trained_on"),
    [
        ([{}], None, "1 slide at 0.5 and 2 µm/px."),
        ([{"synthetic": True}] * 3, True, "3 synthetic slides at 0.5 and 2 µm/px."),
        ([{"synthetic": True, "stain": "H&E"}], True, "1 synthetic H&E slide at 0.5 and 2 µm/px."),
        ([{"synthetic": True}, {}], None, "2 slides at 0.5 and 2 µm/px, 1 of them synthetic."),
        ([{"synthetic": False}, {}], None, "2 slides at 0.5 and 2 µm/px."),
        ([{"stain": s} for s in ("PR", "ER", "H&E", "ER")], None, "4 ER, H&E and PR slides at 0.5 and 2 µm/px."),
        ([{"stain": "ER"}, {}], None, "2 slides at 0.5 and 2 µm/px."),
    ],
)
def test_slides_are_called_synthetic_only_if_all_are(tmp_path, columns, synthetic, trained_on):
    found = writer(tmp_path, entries(*columns)).describe("")
    assert (found.synthetic, found.trained_on) == (synthetic, trained_on)


def test_without_a_checkpoint_nothing_is_written(tmp_path):
    writer(tmp_path, entries({}))(Engine(lambda engine, batch: None))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_metadata_is_called_as_its_folder(tmp_path):
    assert writer(tmp_path, entries({}), bundle_root=tmp_path).describe("").bundle == tmp_path.name
