"""Every bundle meets the requirements of the Model Zoo and of MONAI."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out

from common.bundle.find import short_name
from common.data import PatchIndex
from common.phantom import BREAST
from tests.bundles.commands import configs_of, run_bundle
from tests.bundles.narrow import NARROW
from tests.conftest import DA_REFINENET, DMMN, ENCDEC, MRN, MULTILEVEL, REPOSITORY, SHARED

BUNDLES = sorted((REPOSITORY / "bundles").glob("pathology_*"))
# Configs that overlay others than train.yaml, and those.
AFTER = {
    "demo_context": ["demo.yaml"],
    "demo_unet": ["demo.yaml"],
    "at_target_mpp": ["ablations/unet_2.yaml"],
    "at_5x": ["ablations/single_own.yaml"],
}


def workflows() -> list:
    """Return every workflow of every bundle, plain and with each ablation. An ablation's evaluation differs little from
    its training: it is left to the slow tier."""
    found = []
    for bundle in BUNDLES:
        names = [None, *(path.stem for path in sorted((bundle / "configs" / "ablations").glob("*.yaml")))]
        for name in names:
            for workflow in ("train", "infer", "evaluate"):
                slow = workflow == "evaluate" and name not in (None, "at_target_mpp")
                marks = [pytest.mark.all] if slow else []
                identity = f"{workflow}-{bundle.name}-{name or 'plain'}"
                found.append(pytest.param(workflow, bundle, name, id=identity, marks=marks))
    return found


def metadata(bundle: Path) -> dict:
    return json.loads((bundle / "configs" / "metadata.json").read_text())


every_bundle = pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)


@every_bundle
def test_every_network_has_the_output_channels_of_the_class_scheme(bundle):
    networks = [ConfigParser.load_config_file(path).get("network_def", {}) for path in bundle.rglob("*.yaml")]
    assert {one["out_channels"] for one in networks if "_target_" in one} == {"$@scheme.num_channels"}


@every_bundle
def test_metadata_fits_the_schema(bundle, shared_data, tmp_path):
    said = metadata(bundle)
    assert said["version"] in said["changelog"]
    assert said["name"] == bundle.name
    schema = shutil.copy(SHARED / "data" / "monai" / "meta_schema_20240725.json", tmp_path / "schema.json")
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(schema))


@every_bundle
def test_what_a_bundle_is_made_of_is_there(bundle):
    for name in ("configs/multi_gpu_train.yaml", "configs/logging.conf", "configs/small.yaml", "LICENSE"):
        assert (bundle / name).is_file()
    assert {path.name for path in (bundle / "docs").iterdir()} >= {"README.md", "data_license.txt"}


@every_bundle
def test_network_takes_and_gives_what_the_metadata_says(bundle):
    for overlay in ([], ["small.yaml"]):
        verify_net_in_out(
            net_id="network_def",
            meta_file=str(bundle / "configs" / "metadata.json"),
            config_file=configs_of(bundle, "inference.yaml", *overlay),
            n=1,
            any=256,
            device="cpu",
        )


@every_bundle
def test_metadata_names_the_channels_as_the_configs_do(bundle):
    formats = metadata(bundle)["network_data_format"]
    parser = ConfigParser(ConfigParser.load_config_files(configs_of(bundle, "inference.yaml")))
    assert formats["outputs"]["pred"]["channel_def"] == parser.get_parsed_content("scheme").channel_def()
    views = parser.get_parsed_content("fields_of_view")
    said = formats["inputs"]["image"]["channel_def"]
    assert len(said) == 3 * len(views)
    assert all(f"{views[int(channel) // 3]['mpp']} micrometres per pixel" in text for channel, text in said.items())


@every_bundle
def test_train_and_inference_mean_the_same_classes_views_and_network(bundle):
    train, inference = (
        ConfigParser(ConfigParser.load_config_files(configs_of(bundle, name)))
        for name in ("train.yaml", "inference.yaml")
    )
    for key in ("fields_of_view", "target", "fill", "resample"):
        assert train.get_parsed_content(key) == inference.get_parsed_content(key)
    shapes = [
        {key: value.shape for key, value in parser.get_parsed_content("network_def").state_dict().items()}
        for parser in (train, inference)
    ]
    assert shapes[0] == shapes[1]
    assert train["network_def"] == inference["network_def"]
    assert train["scheme"] == inference["scheme"]


@every_bundle
def test_a_checkpoint_exports_as_torchscript(bundle, tmp_path):
    configs = configs_of(bundle, "inference.yaml", "small.yaml")
    parser = ConfigParser(ConfigParser.load_config_files(configs))
    network = parser.get_parsed_content("network_def").eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    said = metadata(bundle)["network_data_format"]["inputs"]["image"]
    sides = [side if isinstance(side, int) else 256 for side in said["spatial_shape"]]
    image = torch.rand(1, said["num_channels"], *sides)
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=configs,
        input_shape=list(image.shape),
    )
    with torch.no_grad():
        assert torch.allclose(torch.jit.load(str(tmp_path / "model.ts"))(image), network(image), atol=1e-4)


@pytest.mark.parametrize(("workflow", "bundle", "ablation"), workflows())
def test_every_config_has_the_properties_monai_asks_for(workflow, bundle, ablation, phantoms, tmp_path):
    if workflow == "infer" and ablation == "at_target_mpp":
        pytest.skip("only evaluation enlarges what a network says")
    base = {"train": ["train.yaml"], "infer": ["inference.yaml"], "evaluate": ["train.yaml", "evaluate.yaml"]}[workflow]
    base += AFTER.get(ablation, [])
    small = dict(NARROW[short_name(bundle.name)])
    if ablation == "multi_class":
        small |= {key: NARROW["dmmn"][key] for key in ("datalist", "allow_missing")}
    if "demo.yaml" in base and workflow != "infer":
        small["sampler#cycle"] = ["stroma", "background"]
    small["datalist"] = str(phantoms / small["datalist"])
    run = ConfigWorkflow(
        workflow_type="infer" if workflow == "infer" else "train",
        config_file=configs_of(bundle, *base, *([f"ablations/{ablation}.yaml"] if ablation else [])),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=str(bundle / "configs" / "logging.conf"),
        output_dir=str(tmp_path),
        bundle_root=str(bundle),
        slides=str(phantoms / "datalist.json"),
        **small,
    )
    run.initialize()
    assert run.check_properties() in (None, [])
    run.parser.get_parsed_content("check_views")
    if workflow == "train":
        # A sampler of one's own may not find its classes on these slides.
        run.parser.get_parsed_content("loss")
        run.parser.get_parsed_content("optimizer")
    else:
        run.parser.get_parsed_content("validate#evaluator" if workflow == "evaluate" else "evaluator")


@every_bundle
def test_the_multi_gpu_overlay_names_only_what_train_has(bundle):
    names = ("train.yaml", "multi_gpu_train.yaml")
    train, overlay = (ConfigParser.load_config_file(path) for path in configs_of(bundle, *names))
    assert set(overlay) - set(train) <= {"backend", "finalize", "frozen_batch_norm", "shared"}


# ---- small.yaml


# Two of the phantoms' classes, as each bundle calls them.
TWO_CLASSES = {
    DMMN.name: {"stroma": "stroma", "background": "background"},
    DA_REFINENET.name: {"stroma": "benign", "background": "normal"},
    MULTILEVEL.name: {"stroma": "tumour", "adipose": "others"},
    MRN.name: {"stroma": "tumour", "background": "normal"},
    ENCDEC.name: {"stroma": "normal stroma", "background": "background"},
}


# Coarser than small.yaml: fewer targets a slide.
COARSE = {
    MULTILEVEL.name: {"fine_mpp": 2.0, "size": 64},
    MRN.name: {
        "fields_of_view": [{"mpp": mpp, "size": 256} for mpp in (2.0, 4.0, 8.0, 16.0)],
        "target": {"mpp": 2.0, "size": 256},
    },
    ENCDEC.name: {"view_mpp": 2.0},
}


def narrowed(bundle: Path) -> dict:
    """Return settings that make a bundle's network tiny; only classes that small.yaml allows may be missing."""
    left_out = ("datalist", "allow_missing", "batch_classes", "min_labelled")
    small = {key: value for key, value in NARROW[short_name(bundle.name)].items() if key not in left_out}
    return small | COARSE.get(bundle.name, {})


def annotated_in_two_classes(bundle: Path, phantoms: Path, path: Path) -> Path:
    """Write a datalist of one slide in each section, on which two classes are annotated; of MRN's, which has no more,
    validation lacks one."""
    sections = json.loads((phantoms / "datalist.json").read_text())
    for section, entries in sections.items():
        called = dict.fromkeys(BREAST.scheme.names) | TWO_CLASSES[bundle.name]
        if bundle == MRN and section == "validation":
            called["stroma"] = None
        for entry in entries:
            entry["image"] = str(phantoms / entry["image"])
            entry["label"] = str(Path(entry["image"]).with_suffix(".geojson"))
            entry["class_map"] = called
    path.write_text(json.dumps(sections))
    return path


@every_bundle
def test_small_trains_from_nothing_where_classes_are_missing(bundle, phantoms, tmp_path):
    data = annotated_in_two_classes(bundle, phantoms, tmp_path / "datalist.json")
    same = {**narrowed(bundle), "datalist": data, "dtype": "float32", "cache_dir": tmp_path / "patch_index"}
    steps = {"epochs": 1, "batch_size": 4, "samples_per_epoch": 8, "val_interval": 1}
    run_bundle(bundle, tmp_path, "train.yaml", "small.yaml", **same, **steps, checkpoint_dir=tmp_path / "models")
    trained = tmp_path / "models" / "model.pt"
    assert trained.is_file()
    of_checkpoint = {"checkpoint": trained, "output_dir": tmp_path / "scores", "elsewhere": False}
    run_bundle(bundle, tmp_path, "train.yaml", "evaluate.yaml", "small.yaml", **same, **of_checkpoint)
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    counted = {name for name, row in scores["classes"].items() if row["labelled_pixels"]}
    assert counted
    assert counted <= set(TWO_CLASSES[bundle.name].values())
    assert all(row["iou"] is None for name, row in scores["classes"].items() if name not in counted)
    assert 0 <= scores["mean_iou"] <= 1
    segmented = {"checkpoint": trained, "output_dir": tmp_path / "slides", "slides": data, "dtype": "float32"}
    run_bundle(bundle, tmp_path, "inference.yaml", "small.yaml", **narrowed(bundle), **segmented)
    written = {path.name for path in (tmp_path / "slides" / "phantom_0042").iterdir()}
    assert written >= {"prediction.tif", "prediction.geojson", "overlay.png", "summary.json"}


@every_bundle
def test_small_needs_no_checkpoint_and_keeps_the_name_of_the_one_it_makes(bundle):
    small = ConfigParser.load_config_file(configs_of(bundle, "small.yaml")[0])
    begun_with = ("init_weights", "encoder_weights")
    assert not {key for key in small if "checkpoint" in key or key.endswith((*begun_with, "dtype", "variant"))}
    for names in (["train.yaml"], ["train.yaml", "evaluate.yaml"], ["inference.yaml"]):
        parser = ConfigParser(ConfigParser.load_config_files(configs_of(bundle, *names, "small.yaml")))
        parser["bundle_root"] = "root"
        asked_for = parser.get_parsed_content("checkpoint" if names != ["train.yaml"] else "checkpoint_name")
        assert asked_for in ("model.pt", "root/models/model.pt")
        assert parser.get_parsed_content("overlays") == ["small.yaml"]


@every_bundle
def test_small_bounds_training_and_validation_whatever_the_number_of_slides(bundle):
    parser = ConfigParser(ConfigParser.load_config_files(configs_of(bundle, "train.yaml", "small.yaml")))
    epochs, samples = (parser.get_parsed_content(key) for key in ("epochs", "samples_per_epoch"))
    assert 5_000 <= epochs * samples <= 30_000
    # A checkpoint early: within a fifth of the training.
    assert parser["val_interval"] * 5 <= epochs
    index = PatchIndex(
        pd.DataFrame({name: [1] * 1000 for name in parser.get_parsed_content("scheme").names}),
        tuple(parser.get_parsed_content("scheme").names),
    )
    assert len(parser.get_parsed_content("validation_patches").apply(index).rows) <= 150
