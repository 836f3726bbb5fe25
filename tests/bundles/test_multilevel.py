"""The multi-level U-Net's bundle: its settings, and the way from a datalist to figures, slides and further training."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser

from common.networks import EfficientNetUNet, HookNet, MultiLevelUNet, UNet
from common.networks.checkpoint_metadata import read_checkpoint_metadata
from common.training.iterative import IterativeTraining
from tests.bundles.commands import configs_of, run_bundle, run_bundle_command, run_common
from tests.conftest import MULTILEVEL

# 16 targets of 64 pixels a side at 1 µm/px on the phantoms of 1 mm.
SMALL = {
    "encoder": "efficientnet-b0",
    "decoder_channels": [4, 4, 4, 4, 4],
    "merged_channels": 8,
    "size": 64,
    "fine_mpp": 1.0,
    "dtype": "float32",
}
FEW = {"batch_classes": ["normal"], "min_labelled": 0.01, "allow_missing": ["tumour", "others"], "num_workers": 0}
STEPS = {"epochs": 1, "val_interval": 1, "samples_per_epoch": 4, "batch_size": 2}


def bundle(tmp_path: Path, *configs: str, **arguments: Any) -> None:
    """A run of this bundle, made small."""
    run_bundle(MULTILEVEL, tmp_path, *configs, **{**SMALL, **arguments})


def settings(*names: str, **given: Any) -> ConfigParser:
    parser = ConfigParser(ConfigParser.load_config_files(configs_of(MULTILEVEL, *names)))
    parser.update(given)
    return parser


def test_the_papers_hyper_parameters_are_the_default():
    parser = settings("train.yaml")
    assert (parser["batch_size"], parser["size"], parser["class_weights"]) == (16, 512, "dynamic")
    assert parser.get_parsed_content("fields_of_view") == [{"mpp": 0.5, "size": 512}, {"mpp": 2.0, "size": 512}]
    # 8, 4 and 4 of 16.
    assert Counter(parser["batch_classes"]) == {"tumour": 2, "normal": 1, "others": 1}
    assert (parser["scheme"]["threshold"], parser["scheme"]["otherwise"]) == (0.45, "normal")
    assert sum(p.numel() for p in parser.get_parsed_content("network_def").parameters()) == 24_792_817


def test_an_epoch_shows_each_patch_as_often_as_table_5():
    """311,168 patches become 4,978,688."""
    parser = settings("train.yaml", **{"train#dataset": [None] * 311_168})
    assert parser.get_parsed_content("samples_per_epoch") == 4_978_688


def test_nuclei_are_told_by_their_colour_before_it_is_turned():
    order = list(settings("train.yaml")["available"])
    assert order.index("targeted_hsv") < min(order.index("color_jitter"), order.index("heavy_color"))


def test_the_learning_rate_jumps_half_as_high_at_each_cycle(phantoms):
    given = {**SMALL, **FEW, "datalist": str(phantoms / "tissues.json"), "cache_dir": None}
    parser = settings("train.yaml", **given, lr_cycle_steps=5)
    optimizer, scheduler = parser.get_parsed_content("optimizer"), parser.get_parsed_content("lr_scheduler")
    assert isinstance(optimizer, torch.optim.Adam)
    rates = []
    for _ in range(15):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    tops = [max(rates[start : start + 5]) for start in (0, 5, 10)]
    assert tops == pytest.approx([1e-3, 1e-4 + 9e-4 / 2, 1e-4 + 9e-4 / 4])
    for start in (0, 5, 10):
        assert rates[start] == pytest.approx(1e-4)
        assert rates[start + 1] == tops[start // 5]
        assert rates[start + 1 : start + 5] == sorted(rates[start + 1 : start + 5], reverse=True)


@pytest.mark.parametrize(
    ("overlay", "network", "views", "outputs"),
    [
        ("crop", MultiLevelUNet, [(0.5, 512), (2.0, 512)], 3),
        ("merges_3", MultiLevelUNet, [(0.5, 512), (2.0, 512)], 3),
        ("levels_0_2", MultiLevelUNet, [(0.25, 512), (1.0, 512)], 3),
        ("levels_0_3", MultiLevelUNet, [(0.25, 512), (2.0, 512)], 3),
        ("levels_1_4", MultiLevelUNet, [(0.5, 512), (4.0, 512)], 3),
        ("single_view", EfficientNetUNet, [(0.5, 512)], 1),
        ("unet", UNet, [(0.5, 512)], 1),
        ("hooknet", HookNet, [(0.5, 284), (2.0, 284)], 2),
    ],
)
def test_each_ablation_is_the_network_that_it_is_named_after(overlay, network, views, outputs):
    parser = settings("train.yaml", f"ablations/{overlay}.yaml", encoder="efficientnet-b0", channels=[2, 2, 2, 2, 2])
    built = parser.get_parsed_content("network_def")
    assert type(built) is network
    assert [(view["mpp"], view["size"]) for view in parser.get_parsed_content("fields_of_view")] == views
    assert parser.get_parsed_content("checkpoint_name") == f"{overlay}.pt"
    size = views[0][1]
    image = torch.rand(1, 3 * len(views), size, size)
    with torch.no_grad():
        given = parser.get_parsed_content("training_network").eval()(image)
    targets = [parser.get_parsed_content("target"), *parser.get_parsed_content("auxiliary_targets")]
    assert given.shape == (1, 3 * outputs, targets[0]["size"], targets[0]["size"])
    labels = torch.ones(1, len(targets), *given.shape[2:], dtype=torch.uint8)
    assert parser.get_parsed_content("loss")(given, labels) > 0
    # The coarse output is compared with what the coarse view shows.
    assert [target["mpp"] for target in targets] == [view[0] for view in views]


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of training by the bundle's own command."""
    folder = tmp_path_factory.mktemp("trained")
    given = {**SMALL, **FEW, **STEPS, "datalist": phantoms / "tissues.json", "checkpoint_dir": folder}
    run_bundle_command(MULTILEVEL, folder, "train.yaml", "small.yaml", **given)
    return folder


def test_patches_come_2_to_1_to_1_in_every_batch(phantoms, tmp_path):
    """Tumour, normal and others are called what these phantoms have."""
    datalist = json.loads((phantoms / "tissues.json").read_text())
    names = {"stroma": "tumour", "adipose": "others", "background": "normal"}
    for entry in datalist["training"]:
        entry["image"], entry["label"] = (str(phantoms / entry[key]) for key in ("image", "label"))
        entry["class_map"] = {**dict.fromkeys(entry["class_map"]), **names}
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    given = {**SMALL, **FEW, "batch_classes": ["tumour", "tumour", "normal", "others"], "augmentations": []}
    given |= {"allow_missing": ["tumour", "others", "normal"], "samples_per_epoch": 16, "batch_size": 4}
    given |= {"datalist": str(tmp_path / "datalist.json"), "output_dir": str(tmp_path), "min_class_share": 0.5}
    parser = settings("train.yaml", **given)
    parser["train"]["dataset"]["tissue_only"] = False
    for batch in parser.get_parsed_content("train#dataloader"):
        assert batch["image"].shape == (4, 6, 64, 64)
        labels = batch["label"].numpy()
        assert labels.shape == (4, 2, 64, 64)
        most = [np.bincount(item[0][item[0] > 0], minlength=4).argmax() for item in labels]
        assert most == [2, 2, 1, 3]


@pytest.fixture(scope="module")
def varied(phantoms, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network that says everything somewhere: random, its running means those of a few patches."""
    folder = tmp_path_factory.mktemp("varied")
    given = {**SMALL, **FEW, "datalist": str(phantoms / "tissues.json"), "output_dir": str(folder), "momentum": 0.5}
    parser = settings("train.yaml", **given, augmentations=[], batch_size=4, samples_per_epoch=16)
    torch.manual_seed(3)
    network = parser.get_parsed_content("network_def").train()
    with torch.no_grad():
        for batch in parser.get_parsed_content("train#dataloader"):
            network(batch["image"])
        last, said = network.final[-1], network.eval()(batch["image"])
        spread, mean = said.std(dim=(0, 2, 3)), said.mean(dim=(0, 2, 3))
        last.weight *= (2 / spread)[:, None, None, None]
        last.bias.copy_((last.bias - mean) * 2 / spread)
    torch.save(network.state_dict(), folder / "model.pt")
    return folder / "model.pt"


def test_evaluation_agrees_with_the_segmented_slide_and_draws_curves(varied, phantoms, tmp_path):
    same = {"checkpoint": varied, "scheme#threshold": 0.34}
    data = phantoms / "tissues.json"
    bundle(tmp_path, "train.yaml", "evaluate.yaml", "small.yaml", datalist=data, background="keep", **FEW, **same)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    curves = json.loads((tmp_path / "out" / "curves.json").read_text())
    assert scores["labelled_pixels"] == 1024 * 1024
    assert "context_reliance" in scores
    for name, figures in curves.items():
        assert 0 <= figures["auc"] <= 1, name
    assert (tmp_path / "out" / "curves.png").exists()
    slides = {"slides": data, "tissue": False, "outputs": ["prediction.tif"], "output_dir": tmp_path / "slides"}
    bundle(tmp_path, "inference.yaml", "small.yaml", **slides, **same)
    found = tifffile.imread(tmp_path / "slides" / "phantom_0042" / "prediction.tif")
    assert (np.bincount(found.ravel(), minlength=4)[1:] > 5_000).all()
    run_common(
        "compare", tmp_path / "slides", "--datalist", data, "--bundle", MULTILEVEL, "--output", tmp_path / "both"
    )
    stitched = json.loads((tmp_path / "both" / "comparison.json").read_text())["slides"]
    differing = np.abs(np.subtract(*(each["confusion_matrix"]["pixels"] for each in (stitched, scores)))).sum()
    assert differing < 2e-4 * 1024 * 1024


def test_an_ablations_own_checkpoint_is_evaluated_and_run_in_whichever_order_overlays_come():
    for names in (["train.yaml", "evaluate.yaml"], ["inference.yaml"]):
        for overlays in (["ablations/crop.yaml"], ["ablations/crop.yaml", "small.yaml"]):
            for order in ([*names, *overlays], [names[0], *overlays, *names[1:]]):
                found = settings(*order, bundle_root="root").get_parsed_content("checkpoint")
                assert found == "root/models/crop.pt"


@pytest.mark.all
def test_two_processes_train_together(phantoms, tmp_path):
    given = {**SMALL, **FEW, **STEPS, "datalist": phantoms / "tissues.json", "checkpoint_dir": tmp_path}
    run_bundle_command(MULTILEVEL, tmp_path, "train.yaml", "small.yaml", "multi_gpu_train.yaml", processes=2, **given)
    assert (tmp_path / "model.pt").exists()


def test_packed_patches_are_the_same_as_read_ones(phantoms, tmp_path):
    given = {**SMALL, **FEW, "datalist": str(phantoms / "tissues.json"), "output_dir": str(tmp_path), "seed": 3}
    given |= {"augmentations": ["basic", "noise"], "samples_per_epoch": 4, "batch_size": 4}
    found = []
    for overlays in ((), ("patch_cache.yaml",)):
        parser = settings("train.yaml", *overlays, **given, dataset_dir=str(tmp_path))
        found.append(next(iter(parser.get_parsed_content("train#dataloader"))))
    assert torch.equal(found[0]["image"], found[1]["image"])
    assert torch.equal(found[0]["label"], found[1]["label"])


@pytest.fixture
def iterated(phantoms, tmp_path):
    """Return the settings of two steps over an annotated and an unlabelled slide."""
    datalist = json.loads((phantoms / "tissues.json").read_text())
    for section in datalist.values():
        for entry in section:
            entry["image"], entry["label"] = (str(phantoms / entry[key]) for key in ("image", "label"))
    datalist["unlabelled"] = [{"image": datalist.pop("testing")[0]["image"]}]
    (tmp_path / "datalist.json").write_text(json.dumps(datalist))
    small = {key: SMALL[key] for key in ("encoder", "decoder_channels", "size", "fine_mpp", "dtype")}
    first = {"name": "base", "configs": ["ablations/single_view.yaml"], "predictions": False, "threshold": 0.34}
    return {
        "bundle_root": str(MULTILEVEL),
        "datalist": tmp_path / "datalist.json",
        "output_dir": tmp_path / "out",
        "settings": {**small, **FEW, **STEPS, "augmentations": []},
        "inference": {"outputs": ["prediction.tif", "summary.json"]},
        "steps": [first, {"name": "second", "settings": {"merged_channels": 8}}],
    }


def test_each_step_learns_from_what_the_one_before_predicts_where_nobody_annotated(iterated):
    table = IterativeTraining(**iterated).run()
    out = iterated["output_dir"]
    assert table["step"].tolist() == ["base", "second"]
    assert {"steps.csv", "steps.png"} <= {path.name for path in out.iterdir()}
    first, second = (json.loads((out / name / "datalist.json").read_text()) for name in ("0_base", "1_second"))
    assert len(first["training"]) == 1
    assert "pseudo_label" not in first["training"][0]
    assert [Path(entry["pseudo_label"]).parent.name for entry in second["training"]] == ["phantom_0040", "phantom_0042"]
    assert second["training"][0]["label"] == first["training"][0]["label"]
    for entry in second["training"]:
        assert set(np.unique(tifffile.imread(entry["pseudo_label"]))) <= {0, 1, 2, 3}
    summary = json.loads((out / "0_base" / "slides" / "phantom_0042" / "summary.json").read_text())
    assert (summary["settings"]["threshold"], summary["settings"]["otherwise"]) == (0.34, "unlabelled")
    for name in ("0_base", "1_second"):
        described = read_checkpoint_metadata(out / name / "model.pt")
        assert described.bundle == MULTILEVEL.name
        # Nothing says of the slide without annotation what it is.
        expected = (1, True, ["ablations/single_view.yaml"]) if name == "0_base" else (2, None, [])
        assert (described.slides, described.synthetic, described.overlays) == expected
        assert (out / name / "validation" / "scores.json").exists()
    assert not (out / "1_second" / "slides").exists()


def test_iterative_training_resumes_and_refuses_another_way(iterated, monkeypatch):
    done = []
    monkeypatch.setattr(IterativeTraining, "_work", _pretended(done))
    IterativeTraining(**iterated).run()
    assert done == ["train 0_base", "evaluate 0_base", "infer 0_base", "train 1_second", "evaluate 1_second"]
    done.clear()
    # The engine itself leaves finished slides alone.
    IterativeTraining(**iterated).run()
    assert done == ["infer 0_base"]
    done.clear()
    shutil.rmtree(iterated["output_dir"] / "1_second")
    IterativeTraining(**iterated).run()
    assert done == ["infer 0_base", "train 1_second", "evaluate 1_second"]
    done.clear()
    # Another model has other scores.
    (iterated["output_dir"] / "1_second" / "model.pt").write_bytes(b"other")
    IterativeTraining(**iterated).run()
    assert done == ["infer 0_base", "evaluate 1_second"]
    with pytest.raises(ValueError, match="0_base: a step with other settings is there already"):
        IterativeTraining(**{**iterated, "settings": {"epochs": 2}}).run()
    sections = json.loads(iterated["datalist"].read_text())
    label = Path(sections["training"][0]["label"])
    sections["training"][0]["label"] = str(shutil.copy(label, iterated["datalist"].parent / label.name))
    iterated["datalist"].write_text(json.dumps(sections))
    IterativeTraining(**iterated).run()
    features = json.loads(Path(sections["training"][0]["label"]).read_text())
    features["features"] = features["features"][1:]
    Path(sections["training"][0]["label"]).write_text(json.dumps(features))
    with pytest.raises(ValueError, match="0_base: a step with other slides is there already"):
        IterativeTraining(**iterated).run()
    sections["validation"].append({**sections["unlabelled"][0], "label": str(label)})
    iterated["datalist"].write_text(json.dumps(sections))
    with pytest.raises(ValueError, match=r"phantom_0042.tif is in validation and also to learn from"):
        IterativeTraining(**iterated).run()
    with pytest.raises(ValueError, match="the first step, 'second', has none before it"):
        IterativeTraining(**{**iterated, "steps": iterated["steps"][1:]})


def _pretended(done: list[str]):
    """Leaves files as a run would."""

    def work(self, kind, configs, number, output_dir, **given):
        what = "evaluate" if "evaluate.yaml" in configs else kind
        done.append(f"{what} {self.folder(number).name}")
        output_dir.mkdir(parents=True, exist_ok=True)
        if what == "train":
            (output_dir / "model.pt").write_bytes(self.steps[number].name.encode())
        assert given["datalist"] if what != "infer" else given["size"] == 64 and given["fine_mpp"] == 1.0
        if what == "evaluate":
            (output_dir / "scores.json").write_text(json.dumps({"mean_iou": 0.5, "classes": {}}))

    return work


def test_the_six_steps_are_those_of_table_8():
    steps = settings("iterative.yaml").get_parsed_content("iterative").steps
    assert [step.threshold for step in steps] == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert [step.settings["epochs"] for step in steps] == [20, 5, 5, 5, 5, 10]
    assert [step.settings["learning_rate"] for step in steps] == [0.01, 0.005, 0.001, 0.0007, 0.0005, 0.0001]
    assert [step.predictions for step in steps] == [False, True, True, True, True, True]
    assert [step.goes_on for step in steps] == [False, False, True, True, True, True]
    table = ["basic", "basic color_jitter noise", "basic heavy_color noise", "basic heavy_color targeted_hsv noise"]
    table += ["style basic heavy_color targeted_hsv noise", "style xy_jitter basic noise"]
    assert [" ".join(step.settings["augmentations"]) for step in steps] == table
    static = ["class_weights" in step.settings for step in steps]
    assert static == [True, False, False, False, False, True]
    known = settings("train.yaml")["available"]
    for step in steps:
        assert set(step.settings["augmentations"]) <= set(known)
