"""The DA-RefineNet bundle: its settings, and the way from slides to scores of patches and of stitched slides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser

from common.networks import DARefineNet, RefineNet, UNet
from tests.bundles.commands import configs_of, run_bundle
from tests.conftest import DA_REFINENET

# The phantoms span 1,024 µm: four tiles of 25 slices.
SMALL: dict[str, Any] = {
    "view_size": 48,
    "slice_mpp": 2.0,
    "context_mpp": 10.0,
    "slice_encoder": "resnet18",
    "context_encoder": "resnet18",
    "channels": [4, 4, 6, 8],
    "decoder_channels": [8, 6, 6, 6],
    "num_workers": 0,
}


def settings(*names: str) -> ConfigParser:
    return ConfigParser(ConfigParser.load_config_files(configs_of(DA_REFINENET, *names)))


def test_the_papers_hyper_parameters_are_the_default():
    parser = settings("train.yaml")
    assert (parser.get_parsed_content("epochs"), parser["batch_size"]) == (75, 12)
    tile = {"mpp": 4.67, "size": 500, "anchor": "tile"}
    assert parser.get_parsed_content("fields_of_view") == [{"mpp": 0.934, "size": 500}, tile]
    # Slices of 1,000 pixels of 0.467 µm every 500, of which pieces of 500 are cut from 600 to 1,000.
    assert parser.get_parsed_content("read_views")[0] == {"mpp": 0.467, "size": 1000}
    assert parser.get_parsed_content("read_target") == {"mpp": 0.467, "size": 1000}
    assert parser.get_parsed_content("stride") * parser["oversampling"] == 500
    scaled = parser.get_parsed_content("augment").transforms[0]
    assert (scaled.size, scaled.scale, scaled.shortest) == (500, [0.5, 1.0], 600)
    for patches, counts in (("training_patches", (2000, 1000)), ("validation_patches", (250, 250))):
        chosen = parser.get_parsed_content(patches)
        assert (chosen.classes, chosen.containing, chosen.others) == (["benign", "in situ"], *counts)
    assert parser.get_parsed_content("network_def").slice_encoder.widths == [256, 512, 1024, 2048]
    loss = parser.get_parsed_content("loss")
    assert loss.normalisation == "labelled"
    inference = settings("inference.yaml")
    assert (inference["context"], inference["overlap"], inference["block"]) == ("shared", 0.0, 5)


def test_three_stages_with_the_papers_rates():
    parser = settings("train.yaml")
    parser["channels"], parser["decoder_channels"] = [2, 2, 2, 2], [2, 2, 2, 2]
    optimiser = parser.get_parsed_content("optimizer")
    assert isinstance(optimiser, torch.optim.SGD)
    encoders = {id(p) for n, p in parser.get_parsed_content("network_def").named_parameters() if "encoder." in n}
    assert {id(p) for p in optimiser.param_groups[0]["params"]} == encoders
    assert all((group["momentum"], group["weight_decay"]) == (0.9, 1e-5) for group in optimiser.param_groups)
    scheduler = parser.get_parsed_content("lr_scheduler")
    rates = []
    for _ in range(75):
        rates.append([group["lr"] for group in optimiser.param_groups])
        optimiser.step()
        scheduler.step()
    expected = [[5e-4, 5e-3]] * 25 + [[2.5e-4, 2.5e-3]] * 25 + [[1e-4, 1e-3]] * 25
    assert np.allclose(rates, expected, rtol=1e-9)


@pytest.mark.parametrize("brought", [[], ["slice_encoder"], ["slice_encoder", "context_encoder"]])
def test_batch_normalisation_is_frozen_of_encoders_that_begin_with_weights(brought):
    parser = settings("train.yaml")
    parser.update({f"{name}_weights": "resnet.pth" for name in brought})
    parser["channels"], parser["decoder_channels"] = [2, 2, 2, 2], [2, 2, 2, 2]
    parser.get_parsed_content("freeze")
    network = parser.get_parsed_content("network_def").train()
    for name in ("slice_encoder", "context_encoder"):
        norms = [part for part in getattr(network, name).modules() if isinstance(part, torch.nn.BatchNorm2d)]
        assert norms
        assert {part.training for part in norms} == {name not in brought}


def test_every_row_is_trained_and_scored_within_the_same_tiles():
    for overlay in (None, "single_50", "multi_size_50", "add_50"):
        parser = settings("train.yaml", "evaluate.yaml", *([f"ablations/{overlay}.yaml"] if overlay else []))
        for part in ("train", "validate"):
            assert parser[f"{part}#dataset#within"] == "@tile"
        assert parser.get_parsed_content("tile") == {"mpp": 4.67, "size": 500}


ROWS = [None, *(path.stem for path in sorted((DA_REFINENET / "configs" / "ablations").glob("*.yaml")))]


@pytest.mark.parametrize("overlay", ROWS)
def test_every_row_has_a_small_network_and_a_checkpoint_of_its_own(overlay):
    overlays = [f"ablations/{overlay}.yaml"] if overlay else []
    for config in ("train.yaml", "inference.yaml"):
        parser = settings(config, *overlays, "small.yaml")
        if overlay == "unet":
            parser["view_size"] = 256
        parser.get_parsed_content("check_views")
        assert sum(p.numel() for p in parser.get_parsed_content("network_def").parameters()) < 2e6
        assert parser.get_parsed_content("checkpoint_name") == f"{overlay or 'model'}.pt"


FUSED = [(f"{fusion}_{depth}", depth, fusion, 5) for fusion in ("concat", "attention") for depth in (50, 101)]
FUSED += [(f"add_{depth}", depth, "add", 5) for depth in (50, 101, 152)]
FUSED += [(f"multi_size_{depth}", depth, "add", 1) for depth in (50, 101, 152)]


@pytest.mark.parametrize(("overlay", "depth", "fusion", "ratio"), FUSED, ids=[row[0] for row in FUSED])
def test_each_dual_row_of_both_tables_is_a_config(overlay, depth, fusion, ratio):
    parser = settings("train.yaml", f"ablations/{overlay}.yaml")
    with torch.device("meta"):
        built = parser.get_parsed_content("network_def")
        expected = DARefineNet(4, f"resnet{depth}", "resnet50", fusion)
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (built, expected)]
    assert shapes[0] == shapes[1]
    assert built.mpp_ratios == (1, ratio)
    second = parser.get_parsed_content("fields_of_view")[1]
    assert second == ({"mpp": 0.934, "size": 500} if ratio == 1 else {"mpp": 4.67, "size": 500, "anchor": "tile"})
    assert parser.get_parsed_content("checkpoint_name") == f"{overlay}.pt"


@pytest.mark.parametrize("overlay", ["single_50", "single_101", "single_152", "unet"])
def test_each_single_row_of_table_i_is_a_config(overlay):
    parser = settings("train.yaml", f"ablations/{overlay}.yaml")
    with torch.device("meta"):
        built = parser.get_parsed_content("network_def")
        expected = UNet(out_channels=4) if overlay == "unet" else RefineNet(4, f"resnet{overlay.split('_')[1]}")
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (built, expected)]
    assert shapes[0] == shapes[1]
    assert len(parser.get_parsed_content("fields_of_view")) == 1


@pytest.mark.parametrize("overlay", ["single_50", "unet"])
def test_weights_for_an_encoder_that_a_row_has_not_are_refused(overlay, tmp_path):
    torch.save({}, tmp_path / "resnet50.pth")
    parser = settings("train.yaml", f"ablations/{overlay}.yaml")
    parser.get_parsed_content("context_trunk")
    parser = settings("train.yaml", f"ablations/{overlay}.yaml")
    parser["context_encoder_weights"] = str(tmp_path / "resnet50.pth")
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content("context_trunk")
    assert "has no encoder to load" in str(caught.value.__cause__)


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory) -> Path:
    """Two steps in each of the three stages, by the bundle's own config."""
    folder = tmp_path_factory.mktemp("trained")
    few = {"samples_per_epoch": 8, "batch_size": 4, "epochs_per_stage": 1, "training_patches": "$None"}
    run_bundle(
        DA_REFINENET,
        folder,
        "train.yaml",
        **SMALL,
        **few,
        datalist=phantoms / "grades.json",
        allow_missing=["in situ", "invasive"],
        checkpoint_dir=folder,
        output_dir=folder,
    )
    return folder / "model.pt"


def test_patches_and_the_stitched_slide_in_one_table(trained, phantoms, tmp_path, capsys):
    from common.cli.look import compare

    same = {**SMALL, "checkpoint": trained, "datalist": phantoms / "grades.json"}
    every = {"testing_patches": "$None", "stride": 48, "min_labelled": 0.0, "output_dir": tmp_path / "scores"}
    run_bundle(DA_REFINENET, tmp_path, "train.yaml", "evaluate.yaml", **same, **every)
    figures = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert set(figures["context_reliance"]) == {"view 2"}
    # All of the slide, no choice of slices.
    assert figures["labelled_pixels"] == 512 * 512
    few = {**every, "testing_patches#containing": 2, "testing_patches#others": 1, "output_dir": tmp_path / "few"}
    del few["testing_patches"]
    run_bundle(DA_REFINENET, tmp_path, "train.yaml", "evaluate.yaml", **same, **few)
    few_pixels = json.loads((tmp_path / "few" / "scores.json").read_text())["labelled_pixels"]
    assert 0 < few_pixels <= 3 * 48 * 48
    maps = {}
    for context in ("shared", "per_patch"):
        folder = tmp_path / context
        given = {**same, "slides": phantoms / "grades.json", "output_dir": folder, "context": context}
        run_bundle(DA_REFINENET, tmp_path, "inference.yaml", **given)
        (path,) = folder.glob("*/prediction.tif")
        maps[context] = tifffile.imread(path)
    assert (maps["shared"] == maps["per_patch"]).mean() > 0.9999
    assert len(np.unique(maps["shared"])) > 1
    compare(
        f"dual={tmp_path / 'shared'}",
        datalist=str(phantoms / "grades.json"),
        bundle=str(DA_REFINENET),
        output=str(tmp_path / "table"),
        evaluated=f"dual={tmp_path / 'scores'}",
    )
    table = pd.read_csv(tmp_path / "table" / "comparison.csv")
    assert table["over"].tolist() == ["patches", "slides"]
    assert {"mean iou", "pixel accuracy", "BACH score", "IoU normal", "IoU invasive"} <= set(table.columns)
    assert "BACH score" in capsys.readouterr().out
    # Every slice was scored: what differs is glass, which inference leaves out and counts as normal.
    patches, slides = table["BACH score"]
    assert patches == pytest.approx(slides, abs=0.15)
