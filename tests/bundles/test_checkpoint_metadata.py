"""Every bundle says what its weights are for, and looks before it predicts with some."""

from __future__ import annotations

import json
import logging
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from monai.bundle import ConfigParser
from PIL import Image

from common.bundle.parser import bundle_settings
from common.cohort.worker import WorkerSettings, load_bundle
from common.files import sha256
from common.networks.checkpoint_metadata import read_checkpoint_metadata
from common.outputs.provenance import Provenance
from common.reports.features import bundle_encoder
from tests.bundles.commands import configs_of, run_bundle
from tests.conftest import DA_REFINENET, DMMN, ENCDEC, MRN, MULTILEVEL, REPOSITORY

BUNDLES = [DMMN, MRN, ENCDEC, DA_REFINENET, MULTILEVEL]
WEIGHTS = DMMN / "models" / "demo.pt"
SYNTHETIC = "These weights were trained on synthetic slides only"
# Without its overlay, the demonstration's weights meet the paper's views.
REFUSED = (
    "was trained with views at 1, 2, 4 µm/px, the config says 0.5, 1, 2. "
    "Add the overlay it was trained with: --config demo.yaml"
)
every_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


def loaded(bundle: Path, *names: str) -> dict:
    return ConfigParser.load_config_files(configs_of(bundle, *names))


@every_bundle
def test_training_describes_its_checkpoint_behind_what_saves_it_and_only_once(bundle):
    config = loaded(bundle, "train.yaml", "multi_gpu_train.yaml", "patch_cache.yaml")
    handlers = config["validate"]["handlers"]
    writer = handlers[handlers.index("@save_best") + 1]
    assert writer["_target_"] == "common.training.checkpoint_metadata.CheckpointMetadataWriter"
    assert writer["_disabled_"] == "$@rank > 0"
    assert config["overlays"] == []


@every_bundle
def test_weights_that_are_to_predict_are_compared_and_those_to_begin_with_are_not(bundle):
    for names, key in ((["inference.yaml"], "handlers"), (["train.yaml", "evaluate.yaml"], "validate#handlers")):
        parser = ConfigParser(loaded(bundle, *names))
        (loader,) = [one for one in parser[key] if str(one.get("_target_")).endswith("WeightsLoader")]
        assert (loader["fields_of_view"], loader["scheme"]) == ("@fields_of_view", "@scheme")
        # A coarse U-Net of MRN's is also scored at a finer µm/px than it predicts.
        scored_elsewhere = bundle == MRN and "evaluate.yaml" in names
        assert loader.get("target") == (None if scored_elsewhere else "@target")
    (begun,) = [one for one in loaded(bundle, "train.yaml")["train"]["handlers"] if one.get("path") == "@init_weights"]
    assert set(begun) == {"_target_", "path", "network"}


@every_bundle
def test_every_overlay_that_defines_a_network_adds_its_name(bundle):
    folder = bundle / "configs"
    # It changes what is scored, not the network.
    paths = [path for path in sorted((folder / "ablations").glob("*.yaml")) if path.stem != "at_target_mpp"]
    assert paths
    for path in paths:
        name = path.relative_to(folder).as_posix()
        assert yaml.safe_load(path.read_text())["+overlays"] == [name]
        for base in ("train.yaml", "inference.yaml"):
            assert loaded(bundle, base, name)["overlays"] == [name]
    first, second = (path.relative_to(folder).as_posix() for path in paths[:2])
    assert loaded(bundle, "train.yaml", first, second)["overlays"] == [first, second]


@pytest.mark.parametrize("name", ["demo", "demo_unet"])
def test_the_shipped_weights_are_described_as_their_configs_say(name):
    weights = DMMN / "models" / f"{name}.pt"
    found = read_checkpoint_metadata(weights)
    assert found.sha256 == sha256(weights)
    assert (found.synthetic, found.slides, found.stains) == (True, 8, ["H&E"])
    assert found.note.startswith(SYNTHETIC)
    keys = ("network_def", "fields_of_view", "target", "scheme", "overlays")
    said = bundle_settings(found.bundle, ["inference.yaml", *found.overlays], keys)
    assert said["overlays"] == found.overlays
    assert type(said["network_def"]).__name__ == found.network
    assert found.difference(said["fields_of_view"], said["target"], said["scheme"].names) is None
    assert [view["size"] for view in found.fields_of_view] == [view["size"] for view in said["fields_of_view"]]
    if (REPOSITORY / ".git").exists():
        ignored = subprocess.run(["git", "check-ignore", weights.with_suffix(".json")], cwd=REPOSITORY, check=False)
        assert ignored.returncode == 1


def test_a_slide_s_record_and_the_log_say_that_the_weights_know_synthetic_slides_only(tmp_path, capsys):
    Image.fromarray(np.full((256, 256, 3), 240, np.uint8)).save(tmp_path / "slide.png")
    given = {"slides": tmp_path / "slide.png", "mpp": 1.0, "outputs": ["summary.json"], "dtype": "float32"}
    run_bundle(DMMN, tmp_path, "inference.yaml", "demo.yaml", **given)
    printed = [line for line in capsys.readouterr().out.splitlines() if SYNTHETIC in line]
    assert len(printed) == 1
    assert f" - WARNING - {WEIGHTS}: " in printed[0]
    said = json.loads((tmp_path / "out" / "slide" / "summary.json").read_text())
    assert said["weights_note"].startswith(SYNTHETIC)
    assert said["weights"]["synthetic"] is True
    assert said["weights"]["mpp"] == [1.0, 2.0, 4.0]
    assert said["weights"]["stains"] == ["H&E"]
    assert said["weights"]["sha256"] == sha256(WEIGHTS)


def test_a_record_without_metadata_says_nothing_of_them_and_a_stale_file_is_told_once(tmp_path, caplog):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    assert Provenance(checkpoint=weights).record()["weights"] == {"file": "model.pt", "sha256": sha256(weights)}
    weights.with_suffix(".json").write_text((WEIGHTS.with_suffix(".json")).read_text())
    provenance = Provenance(checkpoint=weights)
    with caplog.at_level(logging.WARNING):
        records = [provenance.record() for _ in range(2)]
    assert all("weights_note" not in record for record in records)
    assert len(caplog.messages) == 1
    # A record is of the file that is there.
    weights.write_bytes(b"trained on")
    assert provenance.record()["weights"]["sha256"] == sha256(weights)


def test_inference_with_weights_of_other_views_is_refused(tmp_path):
    Image.fromarray(np.full((64, 64, 3), 240, np.uint8)).save(tmp_path / "slide.png")
    given = {"slides": tmp_path / "slide.png", "mpp": 0.5, "checkpoint": WEIGHTS}
    with pytest.raises(RuntimeError) as failure:
        run_bundle(DMMN, tmp_path, "inference.yaml", **given)
    causes = []
    error: BaseException | None = failure.value
    while error is not None:
        causes.append(str(error))
        error = error.__cause__
    assert any(REFUSED in cause for cause in causes), causes
    assert not (tmp_path / "out" / "slide" / "summary.json").exists()


def test_commands_that_predict_refuse_such_weights_too(tmp_path):
    with pytest.raises(ValueError, match=REFUSED):
        bundle_encoder(DMMN, [], WEIGHTS, "encoder_20x")
    given = WorkerSettings(str(DMMN), ("inference.yaml",), {"checkpoint": str(WEIGHTS)}, str(tmp_path))
    with pytest.raises(ValueError, match=REFUSED):
        load_bundle(given)
