"""The contents of an exported bundle, which runs alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
import yaml
from safetensors.torch import load_file

from common.files import sha256
from common.networks.checkpoint_metadata import read_checkpoint_metadata
from common.sharing import ExportOptions, export_bundle, verify_bundle
from common.sharing.archive import check_checksums
from common.sharing.closure import needed_modules, with_new_places
from common.sharing.export import run_isolated
from common.sharing.metadata import filled_metadata
from common.sharing.settings import merge_overlays, parsed
from tests.bundles.commands import run_common
from tests.conftest import DMMN, REPOSITORY
from tests.exporting import TRAINED_ON


def test_a_bundle_carries_what_its_configs_say(unpacked_bundle):
    assert unpacked_bundle.name == "pathology_tiny_segmentation"
    assert (unpacked_bundle / "scripts" / "networks" / "dmmn.py").is_file()
    assert not (unpacked_bundle / "scripts" / "__main__.py").exists()
    assert not (unpacked_bundle / "scripts" / "phantom").exists()
    for config in sorted((unpacked_bundle / "configs").rglob("*.yaml")):
        assert "common." not in config.read_text()
    assert check_checksums(unpacked_bundle)


def test_an_overlay_is_worked_in_without_the_places_it_names(unpacked_bundle):
    configs = {
        name: yaml.safe_load((unpacked_bundle / "configs" / f"{name}.yaml").read_text())
        for name in ("inference", "train")
    }
    for config in configs.values():
        assert config["network_def"] == {
            "_target_": "scripts.networks.DMMNM3",
            "out_channels": "$@scheme.num_channels",
            "channels": [4, 6, 8, 10, 12],
        }
        assert config["target"] == {"mpp": 1.0, "size": 64}
    assert configs["inference"]["checkpoint"] == "$@bundle_root + '/models/model.pt'"
    assert configs["train"]["datalist"] == "$@dataset_dir + '/datalist.json'"


def test_metadata_is_of_what_is_exported(unpacked_bundle):
    said = json.loads((unpacked_bundle / "configs" / "metadata.json").read_text())
    assert said["name"] == "pathology_tiny_segmentation"
    assert said["version"] == "1.10"
    assert said["changelog"]["1.10"] == "narrow"
    assert said["data_source"] == TRAINED_ON
    image, pred = said["network_data_format"]["inputs"]["image"], said["network_data_format"]["outputs"]["pred"]
    assert (image["num_channels"], image["spatial_shape"], image["value_range"]) == (9, [64, 64], [0.0, 1.0])
    assert image["channel_def"]["8"] == "blue at 4.0 micrometres per pixel"
    assert (pred["num_channels"], pred["channel_def"]["6"]) == (7, "adipose")
    required = said["required_packages_version"]
    assert required["tifffile"] == tifffile.__version__
    assert {"pyyaml", "fire", "pillow", "openslide-python", "scikit-image"} <= set(required)
    # Extras, and what only says how a bundle is exported, are not needed to run it.
    assert not {"highdicom", "ruamel.yaml", "safetensors"} & set(required)


def test_weights_are_those_of_the_checkpoint_and_nothing_else(unpacked_bundle, small_dmmn):
    state = torch.load(small_dmmn[1], weights_only=True)["model"]
    plain = torch.load(unpacked_bundle / "models" / "model.pt", weights_only=True)
    safe = load_file(unpacked_bundle / "models" / "model.safetensors")
    assert set(plain) == set(safe) == set(state)
    assert all(torch.equal(plain[name], value) and torch.equal(safe[name], value) for name, value in state.items())


def test_the_same_export_gives_the_same_bytes(exported, small_dmmn, tmp_path):
    overlay, checkpoint = small_dmmn
    again = tmp_path / "again.zip"
    run_common(
        "export", DMMN, "--checkpoint", checkpoint, "--config", overlay, "-o", again, "--trained_on", TRAINED_ON,
        "--name", "pathology_tiny_segmentation", "--version", "1.10", "--changes", "narrow",
    )  # fmt: skip
    assert again.read_bytes() == exported.read_bytes()


def test_a_slide_is_segmented_where_the_project_is_not(unpacked_bundle, tmp_path):
    """The label map is what the network says in the project itself."""
    from common.sharing.smoke_slide import write_smoke_slide

    views = [{"mpp": mpp, "size": 64} for mpp in (1.0, 2.0, 4.0)]
    datalist = write_smoke_slide(tmp_path, views, views[0], 6)
    run_isolated(
        "run", "--config_file", str(unpacked_bundle / "configs" / "inference.yaml"),
        "--bundle_root", str(unpacked_bundle), "--slides", str(datalist), "--output_dir", str(tmp_path / "alone"),
    )  # fmt: skip
    overlay = tmp_path / "small.yaml"
    overlay.write_text(
        "network_def#channels: [4, 6, 8, 10, 12]\ntarget: {mpp: 1.0, size: 64}\n"
        "fields_of_view: [{mpp: 1.0, size: 64}, {mpp: 2.0, size: 64}, {mpp: 4.0, size: 64}]\n"
    )
    files = [str(DMMN / "configs" / "inference.yaml"), str(overlay)]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", str(DMMN)]
    command += ["--checkpoint", str(unpacked_bundle / "models" / "model.pt"), "--slides", str(datalist)]
    subprocess.run([*command, "--output_dir", str(tmp_path / "here")], check=True, capture_output=True)
    alone, here = (tifffile.imread(tmp_path / where / "slide" / "prediction.tif") for where in ("alone", "here"))
    assert len(np.unique(alone)) > 1
    assert np.array_equal(alone, here)


def test_a_hugging_face_folder_is_a_bundle_with_a_card(small_dmmn, tmp_path):
    overlay, checkpoint = small_dmmn
    folder = tmp_path / "hub"
    options = ExportOptions([str(overlay)], trained_on=TRAINED_ON, license="cc0-1.0")
    export_bundle(DMMN, checkpoint, huggingface=folder, options=options)
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "cc0-1.0"
    assert front["library_name"] == "monai"
    assert TRAINED_ON in card
    assert "| 1 | carcinoma | #dc2828 |" in card
    assert "2.0 micrometres per pixel" in card
    assert "*.safetensors filter=lfs" in (folder / ".gitattributes").read_text()
    assert [finding for finding in verify_bundle(folder, run=False) if finding.problems] == []
    with pytest.raises(ValueError, match="is there already"):
        export_bundle(DMMN, checkpoint, huggingface=folder, options=ExportOptions([str(overlay)]))


def test_large_files_are_listed_with_their_sums(small_dmmn, tmp_path, monkeypatch):
    monkeypatch.setattr("common.sharing.export.LARGEST", 100_000)
    overlay, checkpoint = small_dmmn
    options = ExportOptions([str(overlay)], large_files_url="https://example.org/tiny/")
    out = export_bundle(DMMN, checkpoint, tmp_path / "tiny.zip", options=options)
    with zipfile.ZipFile(out) as file:
        listed = yaml.safe_load(file.read(f"{DMMN.name}/large_files.yml"))["large_files"]
        sums = dict(line.split("  ")[::-1] for line in file.read(f"{DMMN.name}/SHA256SUMS").decode().splitlines())
    entries = {entry["path"]: entry for entry in listed}
    assert entries["models/model.pt"] == {
        "path": "models/model.pt",
        "url": "https://example.org/tiny/models/model.pt",
        "hash_val": sums["models/model.pt"],
        "hash_type": "sha256",
    }


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": "my bundle"}, "letters, digits and underscores"),
        ({"version": "new"}, "no version"),
        ({"version": "0.2.0"}, "not in the changelog"),
        ({"configs": ["none.yaml"]}, "no such config"),
        ({"configs": []}, "weights of another network.*--config"),
    ],
)
def test_what_does_not_fit_leaves_no_zip(change, match, small_dmmn, tmp_path):
    options = ExportOptions(**{"configs": [str(small_dmmn[0])], **change})
    with pytest.raises(ValueError, match=match):
        export_bundle(DMMN, small_dmmn[1], tmp_path / "out.zip", options=options)
    assert list(tmp_path.iterdir()) == []


def test_other_refusals(small_dmmn, tmp_path):
    with pytest.raises(ValueError, match="no format 'tflite'"):
        ExportOptions(formats=["tflite"])
    with pytest.raises(ValueError, match="say where to"):
        export_bundle(DMMN, small_dmmn[1])
    with pytest.raises(ValueError, match="is not a bundle"):
        export_bundle(tmp_path, small_dmmn[1], tmp_path / "out.zip")
    (tmp_path / "meta.yaml").write_text("version: 3\n")
    options = ExportOptions([str(small_dmmn[0])], metadata=tmp_path / "meta.yaml")
    with pytest.raises(ValueError, match="version is read off"):
        export_bundle(DMMN, small_dmmn[1], tmp_path / "out.zip", options=options)


def test_two_overlays_are_named_with_a_comma_and_say_what_they_make(tmp_path):
    """Of the U-Net next to the demonstration network, no word of three magnifications."""
    weights, out = DMMN / "models" / "demo_unet.pt", tmp_path / "unet.zip"
    run_common("export", DMMN, "--checkpoint", weights, "--config", "demo.yaml,ablations/demo_unet.yaml", "-o", out)
    with zipfile.ZipFile(out) as file:
        said = json.loads(file.read(f"{DMMN.name}/configs/metadata.json"))
        names = file.namelist()
    assert said["network_data_format"]["inputs"]["image"]["num_channels"] == 3
    assert said["description"].startswith("UNet: carcinoma, benign epithelial")
    assert "three" not in said["description"] + said["image_classes"]
    assert f"{DMMN.name}/configs/demo.yaml" not in names


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("netwrok_def#channels: [8]\n", "no config of the bundle has 'netwrok_def"),
        ("~train#handlers: 1\n", "deletes keys"),
    ],
)
def test_an_overlay_that_no_config_takes_is_refused(text, match, small_dmmn, tmp_path):
    (tmp_path / "more.yaml").write_text(text)
    options = ExportOptions([str(small_dmmn[0]), str(tmp_path / "more.yaml")])
    with pytest.raises(ValueError, match=match):
        export_bundle(DMMN, small_dmmn[1], tmp_path / "out.zip", options=options)


@pytest.mark.parametrize(
    ("bundle", "overlay"),
    [
        pytest.param(bundle, path, id=f"{bundle.name}-{path.stem}")
        for bundle in sorted((REPOSITORY / "bundles").iterdir())
        for path in sorted((bundle / "configs" / "ablations").glob("*.yaml"))
    ],
)
def test_every_ablation_s_metadata_can_be_filled_in(bundle, overlay, tmp_path):
    """Sizes and channels are those of the overlaid config, whichever it is."""
    base = [(bundle / "configs" / "demo.yaml").read_text()] if "demo" in overlay.stem else []
    config = tmp_path / "inference.yaml"
    config.write_text(merge_overlays((bundle / "configs" / "inference.yaml").read_text(), [*base, overlay.read_text()]))
    parser, own = parsed(config), parsed(bundle / "configs" / "inference.yaml")
    said = json.loads((bundle / "configs" / "metadata.json").read_text())
    found = filled_metadata(said, parser, [], bundle.name, "x", own)["network_data_format"]
    views = parser.get_parsed_content("fields_of_view")
    assert found["inputs"]["image"]["num_channels"] == 3 * len(views)
    assert found["inputs"]["image"]["spatial_shape"] == [views[0]["size"]] * 2
    assert found["outputs"]["pred"]["channel_def"] == parser.get_parsed_content("scheme").channel_def()
    assert found["inputs"]["image"]["value_range"][0] < found["inputs"]["image"]["value_range"][1]


def test_modules_are_followed_through_functions_too(tmp_path):
    for name, text in {
        "__init__.py": "",
        "a.py": "from .sub import thing\n",
        "sub/__init__.py": "from .deep import thing\n",
        "sub/deep.py": "def thing():\n    from ..late import other\n    return other\n",
        "late.py": "other = 1\n",
        "unused.py": "from . import a\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = [path.as_posix() for path in needed_modules(["a.thing"], tmp_path)]
    assert found == ["__init__.py", "a.py", "late.py", "sub/__init__.py", "sub/deep.py"]
    with pytest.raises(ValueError, match="no module .*none"):
        needed_modules(["none.Thing"], tmp_path)


def test_modules_that_a_former_name_loads_from_are_carried():
    def carried(name: str) -> list[str]:
        return [path.as_posix() for path in needed_modules(with_new_places([name]))]

    assert "transforms/previous.py" in carried("transforms.RandRotated")
    assert "transforms/previous.py" not in carried("transforms.RandDeformd")


def test_an_exported_bundle_says_what_its_weights_are_for(unpacked_bundle):
    found = read_checkpoint_metadata(unpacked_bundle / "models" / "model.pt")
    assert (found.bundle, found.overlays, found.network) == ("pathology_tiny_segmentation", [], "DMMNM3")
    assert (found.mpp, found.target["size"], found.classes[0]) == ([1.0, 2.0, 4.0], 64, "carcinoma")
    assert (found.trained_on, found.synthetic, found.slides) == (TRAINED_ON, None, None)
    assert found.sha256 == sha256(unpacked_bundle / "models" / "model.pt")
    config = yaml.safe_load((unpacked_bundle / "configs" / "train.yaml").read_text())
    assert config["overlays"] == []


def test_weights_of_synthetic_slides_stay_so_wherever_they_are_handed_on(tmp_path):
    weights = DMMN / "models" / "demo.pt"
    before = read_checkpoint_metadata(weights)
    options = ExportOptions(["demo.yaml"], "pathology_painted_segmentation", trained_on="3 slides of mine.")
    folder = export_bundle(DMMN, weights, huggingface=tmp_path / "hub", options=options)
    found = read_checkpoint_metadata(folder / "models" / "model.pt")
    assert found.sha256 != before.sha256
    kept = replace(before, sha256=found.sha256, bundle="pathology_painted_segmentation", overlays=[])
    assert found == replace(kept, trained_on="3 slides of mine.")
    card = (folder / "README.md").read_text()
    assert f"# pathology_painted_segmentation\n\n> **{before.note}**\n" in card
    said = f"3 slides of mine. {before.note}"
    assert json.loads((folder / "configs" / "metadata.json").read_text())["data_source"] == said
    for name in ("docs/data_license.txt", "docs/README.md"):
        assert said in (folder / name).read_text()
    assert "overlays: []" in (folder / "configs" / "train.yaml").read_text()
    notes = {finding.check: finding.notes for finding in verify_bundle(folder, run=False)}
    assert notes["what the weights are for"] == (before.note,)


def test_without_a_sentence_of_one_s_own_the_checkpoint_s_is_kept(small_dmmn, tmp_path):
    overlay, trained = small_dmmn
    checkpoint = tmp_path / "mine.pt"
    shutil.copy(trained, checkpoint)
    known = {"sha256": sha256(checkpoint), "trained_on": "12 H&E slides at 1, 2 and 4 µm/px.", "slides": 12}
    (tmp_path / "mine.json").write_text(json.dumps(known))
    folder = export_bundle(DMMN, checkpoint, huggingface=tmp_path / "hub", options=ExportOptions([str(overlay)]))
    assert read_checkpoint_metadata(folder / "models" / "model.pt").slides == 12
    said = json.loads((folder / "configs" / "metadata.json").read_text())["data_source"]
    assert said == "Trained on 12 H&E slides at 1, 2 and 4 µm/px."


def test_an_export_without_the_overlays_of_the_checkpoint_names_them(tmp_path):
    with pytest.raises(ValueError, match=r"the config says 0\.5, 1, 2\. Add the overlay .*: --config demo\.yaml$"):
        export_bundle(DMMN, DMMN / "models" / "demo.pt", tmp_path / "out.zip")
