"""The MRN bundle: its settings, and the way from a datalist to curves and segmented slides."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser

from common.networks import MRN as Network
from common.networks.checkpoints import load_weights
from tests.bundles.commands import configs_of, run_bundle, run_bundle_command, run_common
from tests.conftest import MRN

NARROW = {"channels": [4, 4, 4, 4, 4]}
OUTPUTS = ["prediction.tif", "probabilities.zarr", "summary.json"]


def bundle(tmp_path: Path, *configs: str, **arguments: Any) -> None:
    """A run of this bundle, narrowed."""
    run_bundle(MRN, tmp_path, *configs, **{**NARROW, **arguments})


def settings(*names: str) -> ConfigParser:
    return ConfigParser(ConfigParser.load_config_files(configs_of(MRN, *names)))


def test_the_papers_hyper_parameters_are_the_default():
    parser = settings("train.yaml")
    assert (parser["epochs"], parser["batch_size"], parser["size"]) == (500, 16, 512)
    assert [view["mpp"] for view in parser["fields_of_view"]] == [0.5, 1.0, 2.0, 4.0]
    optimiser = parser.get_parsed_content("optimizer")
    assert isinstance(optimiser, torch.optim.Adam)
    weights, others = optimiser.param_groups
    assert (weights["lr"], weights["betas"], weights["eps"]) == (1e-3, (0.9, 0.999), 1e-8)
    # The gradient of 0.005 ‖W‖² is 2 · 0.005 · W.
    assert (weights["weight_decay"], others["weight_decay"]) == (0.01, 0.0)


@pytest.mark.parametrize(
    ("overlay", "views", "upsample"),
    [
        ("mrn_2", [0.5, 1], "bilinear"),
        ("mrn_3", [0.5, 1, 2], "bilinear"),
        ("mrn_transposed", [0.5, 1, 2, 4], "transposed"),
        ("mrn_transposed_single", [0.5, 1, 2, 4], "transposed_single"),
        *((f"unet_{mpp}", [mpp], "bilinear") for mpp in (0.5, 1, 2, 4)),
    ],
)
def test_each_ablation_is_the_network_that_it_is_named_after(overlay, views, upsample):
    parser = settings("train.yaml", f"ablations/{overlay}.yaml")
    built, expected = parser.get_parsed_content("network_def"), Network(1, len(views), upsample)
    assert {key: value.shape for key, value in built.state_dict().items()} == {
        key: value.shape for key, value in expected.state_dict().items()
    }
    assert parser.get_parsed_content("fields_of_view") == [{"mpp": mpp, "size": 512} for mpp in views]
    assert parser.get_parsed_content("target") == {"mpp": views[0], "size": 512}
    assert parser.get_parsed_content("checkpoint_name") == f"{overlay}.pt"
    # U-Nets of all µm/px draw from as many patches.
    stride = parser.get_parsed_content("stride")
    assert (stride or 512) * views[0] == 256


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps of training by the bundle's own command, validated twice."""
    folder = tmp_path_factory.mktemp("trained")
    steps = {"epochs": 2, "val_interval": 1, "samples_per_epoch": 16}
    given = {**NARROW, **steps, "datalist": phantoms / "two_classes.json", "checkpoint_dir": folder}
    result = run_bundle_command(MRN, folder, "train.yaml", "small.yaml", **given)
    (folder / "log.txt").write_text(result.stdout + result.stderr)
    return folder


@pytest.fixture(scope="module")
def segmented(trained, phantoms) -> Path:
    """The testing slide, everywhere, with probabilities."""
    options = {"slides": phantoms / "two_classes.json", "outputs": OUTPUTS, "tissue": False, "dtype": "float32"}
    folder = trained / "slides"
    checkpoint = trained / "model.pt"
    bundle(trained, "inference.yaml", "small.yaml", **options, checkpoint=checkpoint, output_dir=folder)
    return folder


@pytest.mark.all
def test_training_keeps_the_checkpoint_of_the_lowest_validation_loss(trained, phantoms, tmp_path):
    losses = [float(loss) for loss in re.findall(r"Metrics -- val_loss: (\S+)", (trained / "log.txt").read_text())]
    assert len(losses) == 2
    assert abs(losses[0] - losses[1]) > 0.01 * min(losses)
    parser = settings("train.yaml", "small.yaml")
    parser.update({**NARROW, "datalist": str(phantoms / "two_classes.json"), "cache_dir": None, "num_workers": 0})
    parser.update({"checkpoint_dir": str(tmp_path), "output_dir": str(tmp_path), "bundle_root": str(MRN)})
    load_weights(parser.get_parsed_content("network_def"), trained / "model.pt")
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    assert evaluator.state.metrics["val_loss"] == pytest.approx(min(losses), abs=2e-3 * min(losses))


@pytest.mark.all
def test_two_processes_train_together(phantoms, tmp_path):
    same = {"datalist": phantoms / "two_classes.json", "checkpoint_dir": tmp_path, "batch_size": 2}
    steps = {"epochs": 1, "val_interval": 1, "samples_per_epoch": 8}
    configs = ["train.yaml", "small.yaml", "multi_gpu_train.yaml"]
    run_bundle_command(MRN, tmp_path, *configs, processes=2, **{**NARROW, **same, **steps})
    load_weights(Network(channels=NARROW["channels"]), tmp_path / "model.pt")


def test_evaluation_yields_curves_and_agrees_with_segmented_slides(trained, segmented, phantoms, tmp_path):
    """Scored patch by patch, and as a stitched slide whose probabilities FROC and panels are made of."""
    same = {"checkpoint": trained / "model.pt", "dtype": "float32"}
    data = phantoms / "two_classes.json"
    bundle(tmp_path, "train.yaml", "evaluate.yaml", "small.yaml", datalist=data, elsewhere=False, **same)
    figures = json.loads((tmp_path / "out" / "roc.json").read_text())
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert 0 < figures["pooled"]["auc"] < 1
    assert figures["pooled"]["auc"] == figures["slides"][0]["auc"] == figures["mean_auc_of_slides"]
    assert sum(figures["pooled"]["pixels"].values()) == scores["labelled_pixels"] == 2048 * 2048
    assert figures["pooled"]["sensitivity"] == scores["classes"]["tumour"]["recall"]
    assert {"roc.png", "roc.csv"} <= {path.name for path in (tmp_path / "out").iterdir()}

    run_common("compare", f"mrn={segmented}", "--datalist", data, "--bundle", MRN, "--output", tmp_path / "both")
    stitched = json.loads((tmp_path / "both" / "comparison.json").read_text())["mrn"]
    difference = np.abs(np.subtract(stitched["confusion_matrix"]["pixels"], scores["confusion_matrix"]["pixels"])).sum()
    assert difference < 1e-3 * 2048 * 2048
    assert (tmp_path / "both" / "phantom_0042_probabilities.png").exists()
    table = run_common("froc", f"mrn={segmented}", "--datalist", data, "--output", tmp_path / "froc")
    assert "sensitivity at 0.25" in table
    run_common("roc", f"MRN={tmp_path / 'out'}", "--output", tmp_path / "curves")
    assert (tmp_path / "curves" / "roc.png").exists()


def test_slides_run_with_shared_context_and_overlap(trained, segmented, phantoms, tmp_path):
    same = {"slides": phantoms / "phantom_0042.tif", "checkpoint": trained / "model.pt", "dtype": "float32"}
    same |= {"outputs": ["prediction.tif", "summary.json"], "tissue": False}
    maps = {"per_patch": tifffile.imread(segmented / "phantom_0042" / "prediction.tif")}
    for name, options in {"shared": {"context": "shared"}, "overlap": {"overlap": 0.5}}.items():
        bundle(tmp_path, "inference.yaml", "small.yaml", **same, **options, output_dir=tmp_path / name)
        maps[name] = tifffile.imread(tmp_path / name / "phantom_0042" / "prediction.tif")
    assert maps["per_patch"].shape == (2048, 2048)
    # The coarse branches see what lies beyond a patch's view; after a few steps they say little yet.
    assert (maps["shared"] == maps["per_patch"]).mean() > 0.97
    assert 0.5 < (maps["overlap"] == maps["per_patch"]).mean() < 1


def test_a_coarse_u_net_is_scored_at_its_own_and_at_the_targets_micrometres_per_pixel(phantoms, tmp_path):
    """The same network, its logits enlarged: four times the pixels, nearly the same area."""
    torch.manual_seed(0)
    torch.save(Network(resolutions=1, channels=NARROW["channels"]).state_dict(), tmp_path / "unet.pt")
    same = {"datalist": phantoms / "two_classes.json", "checkpoint": tmp_path / "unet.pt", "dtype": "float32"}
    found = {}
    for name, overlays in {"own": [], "target": ["ablations/at_target_mpp.yaml"]}.items():
        configs = ["train.yaml", "evaluate.yaml", "small.yaml", "ablations/unet_1.yaml", *overlays]
        bundle(tmp_path, *configs, **same, output_dir=tmp_path / name)
        found[name] = json.loads((tmp_path / name / "roc.json").read_text())["pooled"]
    pixels = {name: sum(figures["pixels"].values()) for name, figures in found.items()}
    assert (pixels["own"], pixels["target"]) == (1024 * 1024, 2048 * 2048)
    assert found["own"]["auc"] == pytest.approx(found["target"]["auc"], abs=0.02)
    assert found["own"]["auc"] != found["target"]["auc"]
