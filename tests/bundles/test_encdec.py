"""The encoder-decoder bundle: its settings, and the ways from regions to scores, label maps and diagnoses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser

from common.data import load_datalist
from common.networks import EncoderDecoder, MultiResolutionEncoderDecoder
from common.networks.checkpoints import load_weights
from common.phantom import BIOPSY_CLASSES, write_breast_biopsies
from tests.bundles.commands import configs_of, run_bundle, run_bundle_command, run_common
from tests.conftest import ENCDEC

CHANNELS = [2, 2, 2, 2]
NARROW = {"channels": CHANNELS, "allow_missing": BIOPSY_CLASSES.names, "dtype": "float32"}
# The phantom's superpixels: as many µm², of fewer pixels.
COARSE = {"sp_mpp": 1.0}


def bundle(tmp_path: Path, *configs: str, **arguments: Any) -> None:
    """A run of this bundle, narrowed."""
    run_bundle(ENCDEC, tmp_path, *configs, **{**NARROW, **arguments})


def settings(*names: str) -> ConfigParser:
    return ConfigParser(ConfigParser.load_config_files(configs_of(ENCDEC, *names)))


def test_the_papers_hyper_parameters_are_the_default():
    parser = settings("train.yaml")
    assert (parser["epochs"], parser["batch_size"], parser["stride"], parser["fill"]) == (50, 10, 200, "symmetric")
    assert parser.get_parsed_content("fields_of_view") == [{"mpp": 1.0, "size": 384}]
    assert parser.get_parsed_content("target") == {"mpp": 1.0, "size": 256}
    optimiser = parser.get_parsed_content("optimizer")
    assert isinstance(optimiser, torch.optim.SGD)
    (group,) = optimiser.param_groups
    said = [group[name] for name in ("lr", "momentum", "weight_decay", "nesterov", "dampening")]
    assert said == [5e-4, 0.9, 5e-4, True, 0]
    assert settings("inference.yaml")["overlap"] * 256 == 56


PARTS = {
    "plain": ("none", False, False),
    "residual": ("residual", False, False),
    "own": ("dense", True, True),
    "a1": ("dense", True, False),
    "a2": ("dense", False, True),
    "a3": ("dense", False, False),
}
ROWS = [
    *((f"single_{row}", EncoderDecoder, {}) for row in PARTS),
    *((f"multi_{row}", MultiResolutionEncoderDecoder, {}) for row in PARTS if row != "own"),
    ("multi_fusion_a", MultiResolutionEncoderDecoder, {"fusion": "stack"}),
    ("multi_fusion_b", MultiResolutionEncoderDecoder, {"fusion": "pyramid"}),
]


@pytest.mark.parametrize(("overlay", "kind", "more"), ROWS, ids=[row[0] for row in ROWS])
def test_each_row_of_table_ii_is_a_config(overlay, kind, more):
    parser = settings("train.yaml", f"ablations/{overlay}.yaml")
    skips, sparse, aware = PARTS.get(overlay.split("_")[1], PARTS["own"])
    with torch.device("meta"):
        built = parser.get_parsed_content("network_def")
        expected = kind(8, skips, sparse, aware, **more)
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (built, expected)]
    assert shapes[0] == shapes[1]
    # What shapes do not tell.
    assert parser["skips" if "network_def" in parser else ""] == skips
    assert parser.get_parsed_content("fields_of_view")[0]["size"] == (256 if kind is EncoderDecoder else 384)
    assert parser.get_parsed_content("checkpoint_name") == f"{overlay}.pt"


def test_single_resolution_networks_at_5x_have_names_of_their_own():
    parser = settings("train.yaml", "ablations/single_a1.yaml", "ablations/at_5x.yaml")
    assert parser.get_parsed_content("fields_of_view") == [{"mpp": 2.0, "size": 256}]
    assert parser.get_parsed_content("target") == {"mpp": 2.0, "size": 256}
    assert parser.get_parsed_content("checkpoint_name") == "single_a1_5x.pt"


# ---- from regions of interest to scores, label maps and diagnoses, by commands


@pytest.fixture(scope="module")
def biopsies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small regions of interest with a datalist."""
    return write_breast_biopsies(tmp_path_factory.mktemp("biopsies"), 4, 2, 16, size=300, seed=7)


@pytest.fixture(scope="module")
def trained(biopsies, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps of training by the bundle's own command."""
    folder = tmp_path_factory.mktemp("trained")
    steps = {"epochs": 1, "samples_per_epoch": 20, "batch_size": 4, "variant": "model"}
    bundle(folder, "train.yaml", "small.yaml", datalist=biopsies, checkpoint_dir=folder, **steps)
    return folder / "model.pt"


def test_regions_of_a_case_are_in_one_section_and_have_one_diagnosis(biopsies):
    diagnoses: dict[str, set[str]] = {}
    sections: dict[str, set[str]] = {}
    for section in ("training", "validation", "testing"):
        for item in load_datalist(biopsies, section):
            diagnoses.setdefault(item["case"], set()).add(item["diagnosis"])
            sections.setdefault(item["case"], set()).add(section)
    assert all(len(found) == 1 for found in (*diagnoses.values(), *sections.values()))
    assert {next(iter(found)) for found in diagnoses.values()} == {"benign", "atypia", "DCIS", "invasive"}
    assert len(diagnoses) < 22


def test_evaluation_and_inference_agree_and_the_ring_is_measured(trained, biopsies, tmp_path):
    load_weights(MultiResolutionEncoderDecoder(channels=CHANNELS), trained)
    same = {"datalist": biopsies, "checkpoint": trained}
    bundle(tmp_path, "train.yaml", "evaluate.yaml", "small.yaml", **same, group_by=["diagnosis"])
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert set(scores["context_reliance"]) == {"ring"}
    assert set(scores["groups"]["diagnosis"]) == {"benign", "atypia", "DCIS", "invasive"}
    assert (tmp_path / "out" / "classes.png").stat().st_size > 5000
    slides = {"slides": biopsies, "checkpoint": trained, "outputs": ["prediction.tif", "summary.json"]}
    bundle(tmp_path, "inference.yaml", "small.yaml", **slides, overlap=0.0, output_dir=tmp_path / "edge")
    run_common(
        "compare", f"m={tmp_path / 'edge'}", "--datalist", biopsies, "--bundle", ENCDEC, "--output", tmp_path / "both"
    )
    stitched = json.loads((tmp_path / "both" / "comparison.json").read_text())["m"]
    assert stitched["labelled_pixels"] == scores["labelled_pixels"]
    matrices = [np.array(found["confusion_matrix"]["pixels"]) for found in (stitched, scores)]
    assert np.abs(matrices[0] - matrices[1]).sum() < 1e-3 * scores["labelled_pixels"]
    assert (tmp_path / "both" / "classes.png").exists()


@pytest.mark.all
def test_two_processes_train_together(biopsies, tmp_path):
    steps = {"epochs": 1, "samples_per_epoch": 8, "batch_size": 2, "variant": "model"}
    configs = ["train.yaml", "small.yaml", "ablations/single_a3.yaml", "multi_gpu_train.yaml"]
    given = {**NARROW, **steps, "datalist": biopsies, "checkpoint_dir": tmp_path}
    run_bundle_command(ENCDEC, tmp_path, *configs, processes=2, **given)
    load_weights(EncoderDecoder(8, "dense", False, False, CHANNELS), tmp_path / "model.pt")


def test_superpixels_are_told_apart_and_regions_diagnosed(biopsies, tmp_path):
    """SP-SVM's label maps beat chance, and are what regions are diagnosed from, seen and new."""
    maps = tmp_path / "sp_svm"
    same = {"datalist": biopsies, "checkpoint": tmp_path / "sp_svm.skops", **COARSE}
    outputs = ["prediction.tif", "overlay.png", "summary.json"]
    run_bundle(ENCDEC, tmp_path, "sp_svm.yaml", **same, output_dir=maps, outputs=outputs, per_label=200)
    named = [Path(item["image"]).stem for item in load_datalist(biopsies, "testing")]
    assert sorted(path.name for path in maps.iterdir()) == sorted(named)
    assert sorted(path.name for path in (maps / named[0]).iterdir()) == sorted(outputs)
    table = tmp_path / "scores" / "comparison.csv"
    run_common("compare", f"SP-SVM={maps}", "--datalist", biopsies, "--bundle", ENCDEC, "--output", table.parent)
    scores = json.loads(table.with_suffix(".json").read_text())["SP-SVM"]
    assert scores["pixel_accuracy"] > 0.7
    # The same command again leaves what is finished, and adds what is not there; of a part of a slide, only that part
    # is segmented.
    before = (maps / named[0] / "prediction.tif").stat().st_mtime_ns
    more = {"outputs": ["prediction.nii.gz"], "output_dir": maps, "per_label": 200}
    run_bundle(ENCDEC, tmp_path, "sp_svm.yaml", **same, **more)
    assert (maps / named[0] / "prediction.tif").stat().st_mtime_ns == before
    assert (maps / named[0] / "prediction.nii.gz").exists()
    again = {"run_id": "segment", "outputs": outputs}
    first = load_datalist(biopsies, "testing")[0]
    parts = [{**first, "regions": [[20, 40, 80, 100]]}, {**first, "regions": [[130, 10, 50, 60]]}]
    (tmp_path / "parts.json").write_text(json.dumps({"testing": parts}))
    run_bundle(
        ENCDEC, tmp_path, "sp_svm.yaml", **same, **again, slides=tmp_path / "parts.json", output_dir=tmp_path / "p"
    )
    part = tifffile.imread(tmp_path / "p" / named[0] / "prediction.tif")
    inside = np.zeros(part.shape, dtype=bool)
    inside[20:100, 40:140] = inside[130:180, 10:70] = True
    assert (part > 0).tolist() == inside.tolist()

    same = {"datalist": biopsies, "label_maps": {"SP-SVM": str(maps)}, "checkpoint": tmp_path / "diagnosis.skops"}
    same |= {"folds": 2, "repeats": 2, "output_dir": tmp_path / "diagnosis", **COARSE}
    run_bundle(ENCDEC, tmp_path, "diagnose.yaml", **same, from_truth=True)
    figures = json.loads((tmp_path / "diagnosis" / "diagnosis.json").read_text())
    assert sum(figures["4-class"]["regions"].values()) == 16
    assert {result["label_maps"] for result in figures["4-class"]["results"]} == {"SP-SVM", "truth"}
    assert [task["pathologists"] for task in figures.values()] == [0.70, 0.98, 0.81, 0.80]
    run_bundle(ENCDEC, tmp_path, "diagnose.yaml", **same, run_id="apply")
    lines = (tmp_path / "diagnosis" / "diagnoses.csv").read_text().splitlines()
    assert lines[0] == "image,case,learnt from,4-class,invasive,benign,atypia-DCIS"
    assert len(lines) == 17


def test_activations_of_networks_as_a_picture(trained, biopsies, tmp_path):
    slide = load_datalist(biopsies, "testing")[0]["image"]
    layers = "wide.trunk.resnet.layer1,wide.trunk.resnet.layer2"
    torch.manual_seed(0)
    torch.save(MultiResolutionEncoderDecoder(channels=CHANNELS, input_aware=False).state_dict(), tmp_path / "a1.pt")
    (tmp_path / "narrow.yaml").write_text(f"channels: {CHANNELS}\n")
    models = [f"IA-RCU={trained}+{tmp_path / 'narrow.yaml'}"]
    models.append(f"RCU={tmp_path / 'a1.pt'}+ablations/multi_a1.yaml+{tmp_path / 'narrow.yaml'}")
    run_common(
        "activations", slide, *models, "--center", "150,160", "--layers", layers, "--output", tmp_path / "maps.png"
    )
    assert (tmp_path / "maps.png").stat().st_size > 20_000
