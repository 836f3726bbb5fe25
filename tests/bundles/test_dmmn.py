"""The DMMN bundle: its settings, and the way from a datalist to a segmented slide."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from common.networks import DMMNM3, NETWORKS, UNet
from common.networks.checkpoint_metadata import read_checkpoint_metadata
from common.networks.checkpoints import load_branches, load_weights
from tests.bundles.commands import configs_of, run_bundle, run_bundle_command, run_common
from tests.conftest import DMMN
from tests.networks.test_convert_released import WIDTHS, released_state

CONFIGS = DMMN / "configs"
ABLATIONS = sorted((CONFIGS / "ablations").glob("*.yaml"))
NARROW = {"_target_": "common.networks.DMMNM3", "out_channels": 7, "channels": [4, 6, 8, 10, 12]}


# Without polygons: a network of a few steps predicts pixel noise.
OUTPUTS = ("prediction.tif", "overlay.png", "summary.json")


def config(*names: str) -> list[str]:
    return configs_of(DMMN, *names)


def test_every_network_of_the_paper_has_a_config():
    named = {ConfigParser.load_config_file(path)["network_def"]["_target_"].split(".")[-1] for path in ABLATIONS}
    assert named | {"DMMNM3"} == set(NETWORKS)


def test_the_papers_hyper_parameters_are_the_default():
    parser = ConfigParser(ConfigParser.load_config_files(config("train.yaml")))
    assert (parser["learning_rate"], parser["epochs"], parser["batch_size"]) == (5e-5, 20, 1)
    assert (parser["optimizer"]["momentum"], parser["optimizer"]["weight_decay"]) == (0.99, 1e-4)
    assert (parser["optimizer"]["_target_"], parser["min_labelled"]) == ("torch.optim.SGD", 0.01)


def test_validation_is_balanced_as_training_is_and_evaluation_is_not(phantoms, tmp_path):
    """Table 1 of the paper: 9,506 patches to validate on become 24,119."""
    given = {"datalist": str(phantoms / "datalist.json"), "cache_dir": str(tmp_path), "allow_missing": None}
    given.update(bundle_root=str(DMMN), section="validation", validation_patches=None)
    copies = {}
    for overlay in ("train.yaml", "evaluate.yaml", "small.yaml"):
        parser = ConfigParser(ConfigParser.load_config_files(config("train.yaml", overlay)))
        parser.update({**given, "stride": None})
        dataset = parser.get_parsed_content("validate#dataset")
        rows = dataset.index.rows
        copies[overlay] = int((rows["deformation"] >= 0).sum())
        if overlay == "train.yaml":
            plain = rows[rows["deformation"] < 0]
            rates, order = parser["elastic_copies"], parser["class_priority"]
            of_rows = [next((rates[name] for name in order if row[name] > 0), 0) for _, row in plain.iterrows()]
            assert copies["train.yaml"] == sum(of_rows) > 0
            first = of_rows.index(max(of_rows))
            same = rows[(rows["row"] == plain["row"][first]) & (rows["column"] == plain["column"][first])].index
            pictures = [torch.as_tensor(dataset[int(position)]["image"]) for position in same[:3]]
            assert not torch.equal(pictures[0], pictures[1])
            assert not torch.equal(pictures[1], pictures[2])
    assert copies["evaluate.yaml"] == copies["small.yaml"] == 0


# ---- from a datalist to a segmented slide, by commands


def bundle(tmp_path: Path, *configs: str, **arguments: Any) -> None:
    """A run of this bundle."""
    run_bundle(DMMN, tmp_path, *configs, **arguments)


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps of training by the bundle's own command."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = {
        "dataset_dir": phantoms,
        "checkpoint_dir": folder,
        "network_def": NARROW,
        "epochs": 1,
        "val_interval": 1,
        "samples_per_epoch": 16,
        "allow_missing": ["carcinoma", "benign epithelial", "necrotic"],
        "sampler#cycle": ["stroma", "background"],
        "branch_init_weights": {},
    }
    run_bundle_command(DMMN, folder, "train.yaml", "demo.yaml", **arguments)
    return folder


@pytest.mark.all
@pytest.mark.parametrize("normalisation", ["pixels", "weights"])
def test_two_processes_train_as_one_with_twice_the_batch(normalisation, phantoms, tmp_path):
    """The same patches, augmented the same, in the same global batches: the same weights up to rounding."""
    arguments = {
        "dataset_dir": phantoms,
        "network_def": NARROW,
        "epochs": 2,
        "val_interval": 1,
        "samples_per_epoch": 12,
        "dtype": "float32",
        "loss_normalisation": normalisation,
        "allow_missing": ["carcinoma", "benign epithelial", "necrotic"],
        "sampler#cycle": ["stroma", "background"],
        "branch_init_weights": {},
        "cache_dir": tmp_path / "cache",
        "init_weights": tmp_path / "start.pt",
    }
    start = DMMNM3(channels=NARROW["channels"]).state_dict()
    torch.save(start, tmp_path / "start.pt")
    one, two = ({**arguments, "checkpoint_dir": tmp_path / name, "output_dir": tmp_path / name} for name in "ab")
    run_bundle_command(DMMN, tmp_path, "train.yaml", "demo.yaml", batch_size=4, **one)
    configs = ["train.yaml", "demo.yaml", "multi_gpu_train.yaml"]
    result = run_bundle_command(DMMN, tmp_path, *configs, processes=2, batch_size=2, **two)
    first, second = (torch.load(tmp_path / name / "demo.pt", weights_only=True) for name in "ab")
    moved = max((first[key] - start[key]).abs().max() for key in start)
    assert max((first[key] - second[key]).abs().max() for key in first) < 1e-4 * moved
    assert (result.stdout + result.stderr).count("Epoch[2] Metrics -- val_mean_iou") == 1


def test_a_branch_begins_as_the_u_net_that_is_named(tmp_path):
    unet = UNet(channels=NARROW["channels"])
    torch.save(unet.state_dict(), tmp_path / "unet.pt")
    parser = ConfigParser(ConfigParser.load_config_files(config("train.yaml", "demo.yaml")))
    parser.update({"network_def": NARROW, "freeze_branches": True})
    parser["branch_init_weights"] = {"5x": str(tmp_path / "unet.pt")}
    assert parser["run"].index("@branches") < parser["run"].index("$@train#trainer.run()")
    parser.get_parsed_content("branches")
    branch = parser.get_parsed_content("network").encoder_5x
    assert all(torch.equal(branch.state_dict()[key], value) for key, value in unet.encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in branch.parameters())
    with pytest.raises(ValueError, match=r"absent\.pt: no such .* branch 5x.*branch_init_weights: \{\}"):
        load_branches(DMMNM3(channels=NARROW["channels"]), {"5x": tmp_path / "absent.pt"})


def test_training_leaves_a_checkpoint_and_the_class_balance(trained):
    load_weights(DMMNM3(channels=NARROW["channels"]), trained / "demo.pt")
    described = read_checkpoint_metadata(trained / "demo.pt")
    assert described.note.startswith("These weights were trained on synthetic slides only")
    assert described.trained_on == "1 synthetic H&E slide at 1, 2 and 4 µm/px."
    assert (described.bundle, described.overlays, described.network) == (DMMN.name, ["demo.yaml"], "DMMNM3")
    assert (trained / "out" / "class_balance.png").stat().st_size > 5000
    assert list((trained / "out").glob("events.out.tfevents*"))


def test_evaluation_and_inference_agree(trained, phantoms, tmp_path):
    """Scored patch by patch by evaluate.yaml, and as a stitched slide: the same confusion matrix."""
    same = {"network_def": NARROW, "checkpoint": trained / "demo.pt", "dtype": "float32"}
    bundle(tmp_path, "train.yaml", "evaluate.yaml", "demo.yaml", dataset_dir=phantoms, **same)
    patches = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert set(patches["context_reliance"]) == {"view 2", "view 3", "views 2+3"}
    assert {"scores.csv", "confusion.png"} <= {path.name for path in (tmp_path / "out").iterdir()}
    bundle(tmp_path, "inference.yaml", "demo.yaml", slides=phantoms / "datalist.json", outputs=list(OUTPUTS), **same)
    folder = tmp_path / "out" / "phantom_0042"
    assert {path.name for path in folder.iterdir()} == set(OUTPUTS)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["bundle"] == {"name": "pathology_dmmn_segmentation", "version": "0.1.0"}
    assert len(summary["weights"]["sha256"]) == 64
    truth, slide = phantoms / "phantom_0042_labels.tif", phantoms / "phantom_0042.tif"
    run_common("score", folder / "prediction.tif", truth, slide, "--bundle", DMMN)
    stitched = json.loads((folder / "scores" / "scores.json").read_text())
    difference = sum(
        abs(a - b)
        for one, two in zip(stitched["confusion_matrix"]["pixels"], patches["confusion_matrix"]["pixels"], strict=True)
        for a, b in zip(one, two, strict=True)
    )
    assert stitched["labelled_pixels"] == patches["labelled_pixels"] == 1024 * 1024
    assert difference < 1e-4 * 1024 * 1024


def test_the_walk_from_qupath_files_to_segmented_slides(phantoms, tmp_path):
    """As docs/training.md has it: folders, datalist, inspection, training, scores, segmented slides, comparison."""
    for kind, ending in (("slides", ".tif"), ("annotations", ".geojson")):
        (tmp_path / kind).mkdir()
        for number in range(40, 43):
            shutil.copy(phantoms / f"phantom_00{number}{ending}", tmp_path / kind)
    datalist = tmp_path / "datalist.json"
    folders = (tmp_path / "slides", tmp_path / "annotations")
    assert "1 training, 1 validation, 1 testing" in run_common("datalist", "folder", *folders, "--output", datalist)
    said = run_common("inspect", datalist, "--output", tmp_path / "inspection", "--patches", 2, check=False)
    assert "training: 1 slides" in said
    same = {"datalist": datalist, "network_def": NARROW}
    arguments = {
        "checkpoint_dir": tmp_path,
        "epochs": 1,
        "samples_per_epoch": 8,
        "val_interval": 1,
        "allow_missing": ["carcinoma", "benign epithelial", "necrotic", "adipose"],
        "sampler#cycle": ["stroma", "background"],
        "branch_init_weights": {},
    }
    bundle(tmp_path, "train.yaml", "demo.yaml", **same, **arguments)
    trained = {"network_def": NARROW, "checkpoint": tmp_path / "demo.pt"}
    options = {"scored_classes": ["background", "stroma"], "background": "as_class"}
    options |= {"group_by": ["image"], "elsewhere": False}
    bundle(tmp_path, "train.yaml", "evaluate.yaml", "demo.yaml", **{**same, **trained, **options})
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert set(scores["classes"]) == {"background", "stroma"}
    assert scores["labelled_pixels"] == scores["slides"][0]["labelled_pixels"] > 10_000
    assert next(iter(scores["groups"]["image"].values()))["mean_iou"] == scores["mean_iou"]
    bundle(tmp_path, "inference.yaml", "demo.yaml", slides=datalist, outputs=list(OUTPUTS), **trained)
    run_common("compare", f"mine={tmp_path / 'out'}", "--datalist", datalist, "--output", tmp_path / "comparison")
    assert (tmp_path / "comparison" / "comparison.csv").read_text().splitlines()[1].startswith("mine,")


def test_one_damaged_slide_of_several_is_reported_by_the_exit_code(trained, shared_data, tmp_path):
    for name in ("slides/CMU-1-Small-Region.svs", "malformed/tile_offset_zero.svs"):
        shutil.copy(shared_data / name, tmp_path)
    same = {"network_def": NARROW, "checkpoint": trained / "demo.pt", "outputs": ["summary.json"]}
    slides = {"slides": tmp_path / "*.svs", **same}
    result = run_bundle_command(DMMN, tmp_path, "inference.yaml", "demo.yaml", check=False, **slides)
    assert result.returncode == 1
    assert "1 of 2 slides could not be segmented" in result.stderr
    assert "tile_offset_zero.svs: level 0, tile 65" in result.stderr
    assert [path.parent.name for path in (tmp_path / "out").glob("*/summary.json")] == ["CMU-1-Small-Region"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"fields_of_view": [{"mpp": 0.5, "size": 256}]}, "DMMNM3 reads 3 fields of view, fields_of_view has 1"),
        (
            {"fields_of_view": [{"mpp": m, "size": 256} for m in (0.5, 1.0, 4.0)]},
            "Set their mpp to 0.5, 1, 2",
        ),
        ({"target": {"mpp": 0.5, "size": 128}}, "predicts 256 x 256 pixels, the target has 128"),
        ({"target": {"mpp": 0.5, "size": 256}}, "Set the target's mpp to 1, the finest field of view's"),
        ({"network_def": {**NARROW, "out_channels": 6}}, "6 output channels, the class scheme needs 7"),
        ({"checkpoint": "none.pt"}, "no such checkpoint"),
        ({"checkpoint": "unet.pt"}, "weights of another network than DMMNM3"),
        ({"slides": "nothing/*.svs"}, "no slide matches"),
    ],
)
def test_bad_configs_stop_at_once_and_say_what_to_change(phantoms, tmp_path, overrides, says, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(UNet(channels=NARROW["channels"]).state_dict(), "unet.pt")
    arguments = {"slides": phantoms / "datalist.json", "output_dir": tmp_path, **overrides}
    run = ConfigWorkflow(
        workflow_type="infer", config_file=config("inference.yaml", "demo.yaml"), bundle_root=str(DMMN), **arguments
    )
    run.initialize()
    with pytest.raises((ValueError, RuntimeError)) as caught:
        run.run()
    messages, error = [], caught.value
    while error is not None:
        messages.append(str(error))
        error = error.__cause__
    assert says in " ".join(messages)


def test_a_released_checkpoint_segments_a_slide(phantoms, tmp_path):
    torch.save({"model_state": released_state()}, tmp_path / "released.pkl")
    run_common("convert-released", tmp_path / "released.pkl", tmp_path / "model.pt")
    same = {"network_def#channels": WIDTHS, "checkpoint": tmp_path / "model.pt", "outputs": ["summary.json"]}
    bundle(tmp_path, "inference.yaml", "released.yaml", slides=phantoms / "phantom_0042.tif", **same)
    summary = json.loads((tmp_path / "out" / "phantom_0042" / "summary.json").read_text())
    assert (summary["settings"]["resample"], summary["settings"]["fill"]) == ("decimate", "reflect")


@pytest.mark.all
def test_the_demo_reaches_its_figures(tmp_path):
    command = [sys.executable, "-m", "common", "demo", "--output", str(tmp_path)]
    subprocess.run(command, check=True, timeout=900)
    found = {name: json.loads((tmp_path / name / "scores" / "scores.json").read_text()) for name in ("dmmn_m3", "unet")}
    reliance = json.loads((tmp_path / "dmmn_m3" / "context" / "scores.json").read_text())["context_reliance"]
    assert found["dmmn_m3"]["mean_iou"] >= 0.70
    assert reliance["views 2+3"] >= 0.10
    benign = {name: scores["classes"]["benign epithelial"]["iou"] for name, scores in found.items()}
    assert benign["dmmn_m3"] > 0.6, "what differs only in its surroundings is told apart by the network that sees them"
    assert benign["unet"] < 0.2
