"""Keys of the previous version: translated, or refused with the new one; never passed over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow, run

from common.bundle.keys import check_overlays, checked_settings, config_files, current_settings, known_settings
from common.bundle.parser import bundle_parser
from common.bundle.run import run_configs
from common.renamed_keys import CONFIGS, KEYS, OPTIONS, VALUES, refuse_old_keys, takes_old_names
from common.settings import differences

NOW = """
bundle_root: "."
tta: none
reader_threads: 2
variant: model
checkpoint_name: $@variant + '.pt'
options: {context: shared, tta: "@tta"}
train:
  epoch_sampler: {seed: 0}
check_keys: {_target_: common.renamed_keys.refuse_old_keys}
run:
  - "@check_keys"
  - "$open(@bundle_root + '/ran', 'w').write(repr([@tta, @reader_threads, @checkpoint_name, @options]))"
"""
BEFORE = 'bundle_root: "."\nsymmetries: none\nrow: model\ncheckpoint_name: $@row + ".pt"\n'


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Write a bundle with the keys of this version."""
    return written(tmp_path / "now", NOW)


def written(folder: Path, config: str) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text("{}")
    (folder / "configs" / "inference.yaml").write_text(config)
    return folder


def own(bundle: Path, text: str) -> Path:
    """Write an overlay of a user's own."""
    path = bundle.parent / "own.yaml"
    path.write_text(text)
    return path


def monai_run(bundle: Path, *overlays: Path, **given: Any) -> str:
    """Run a bundle by MONAI alone, and return what it wrote."""
    files = [str(path) for path in (bundle / "configs" / "inference.yaml", *overlays)]
    run(config_file=files, bundle_root=str(bundle), **given)
    return (bundle / "ran").read_text()


def test_the_table_leads_from_old_names_to_new_ones():
    new = {name for names in KEYS.values() for name in names}
    assert not new & set(KEYS)
    assert set(VALUES) <= new
    assert not set(CONFIGS) & set(CONFIGS.values())
    assert not set(OPTIONS) & set(OPTIONS.values())


def test_old_keys_of_a_command_are_taken_and_the_new_ones_said(bundle, caplog):
    given = {"symmetries": "all", "readers": 4, "train#draws#seed": 3, "options#symmetries": "flips"}
    assert known_settings(bundle, ["inference.yaml"], given) == {
        "tta": "d4",
        "reader_threads": 4,
        "train#epoch_sampler#seed": 3,
        "options#tta": "flips",
    }
    assert [record.message for record in caplog.records] == [
        "symmetries is now tta: write --tta d4",
        "readers is now reader_threads: write --reader_threads 4",
        "train#draws#seed is now train#epoch_sampler#seed: write --train#epoch_sampler#seed 3",
        "options#symmetries is now options#tta: write --options#tta flips",
    ]


def test_new_keys_are_taken_without_a_word(bundle, caplog):
    files = config_files(bundle, ["inference.yaml"])
    given = {"tta": "flips", "reader_threads": 4, "train#epoch_sampler#seed": 3}
    assert checked_settings(files, current_settings(files, given)) == given
    assert not caplog.records


def test_a_key_given_by_both_its_names_is_refused(bundle):
    with pytest.raises(ValueError, match=r"^tta and symmetries are the same\. Leave one out$"):
        known_settings(bundle, ["inference.yaml"], {"tta": "none", "symmetries": "all"})
    overlay = own(bundle, "row: a\nvariant: b\n")
    with pytest.raises(ValueError, match=r"^own\.yaml: row and variant are the same"):
        bundle_parser(bundle, ["inference.yaml", str(overlay)])


def test_a_bundle_of_the_previous_version_keeps_its_keys_and_takes_the_new_ones(tmp_path, caplog):
    older = written(tmp_path / "before", BEFORE)
    assert known_settings(older, ["inference.yaml"], {"tta": "d4"}) == {"symmetries": "all"}
    assert known_settings(older, ["inference.yaml"], {"symmetries": "all"}) == {"symmetries": "all"}
    assert bundle_parser(older, ["inference.yaml"]).get_parsed_content("checkpoint_name") == "model.pt"
    assert not caplog.records


def test_an_overlay_with_old_keys_is_laid_over_as_one_with_the_new_ones(bundle, caplog):
    overlay = own(
        bundle, "symmetries: all\nrow: other\ncheckpoint_name: $@row + '.ts'\n+options: {readers: '@readers'}\n"
    )
    files = config_files(bundle, ["inference.yaml", str(overlay)])
    check_overlays(bundle, files)
    run_configs(bundle, files, {"readers": 5})
    assert (bundle / "ran").read_text() == repr(["d4", 5, "other.ts", {"context": "shared", "tta": "d4", "readers": 5}])
    said = [record.message for record in caplog.records if record.name.startswith("common.")]
    assert "own.yaml: symmetries is now tta: write tta: d4" in said
    assert "own.yaml: row is now variant: write variant: other" in said


def test_an_expression_of_a_key_whose_values_changed_is_refused(bundle):
    overlay = own(bundle, "variant: \"$'a' if @symmetries == 'all' else 'b'\"\n")
    with pytest.raises(ValueError, match=r"own\.yaml: symmetries is now tta, and has other values\. Change "):
        bundle_parser(bundle, ["inference.yaml", str(overlay)])


def test_a_renamed_config_is_found_by_its_old_name_and_by_its_new_one_in_older_bundles(bundle, tmp_path, caplog):
    (bundle / "configs" / "patch_cache.yaml").write_text("tta: flips\n")
    older = written(tmp_path / "before", BEFORE)
    (older / "configs" / "packed.yaml").write_text("row: packed\n")
    assert [path.name for path in config_files(bundle, ["packed.yaml"])] == ["patch_cache.yaml"]
    assert [path.name for path in config_files(older, ["patch_cache.yaml"])] == ["packed.yaml"]
    assert "packed.yaml is called patch_cache.yaml in now" in caplog.text
    with pytest.raises(ValueError, match="no such config"):
        config_files(tmp_path / "before", ["packt.yaml"])


# ---- MONAI alone


def test_monai_alone_stops_at_an_old_key_in_one_line(bundle):
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(bundle), "--symmetries", "all"]
    command += ["--config_file", str(bundle / "configs" / "inference.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: symmetries is now tta: write --tta d4"
    assert "Traceback" not in done.stderr
    assert not (bundle / "ran").exists()


@pytest.mark.parametrize(
    ("overlay", "given", "message"),
    [
        ("", {"readers": 3}, "readers is now reader_threads: write --reader_threads 3"),
        ("row: other\n", {}, "row is now variant: write --variant other"),
        ("+train: {draws: {seed: 4}}\n", {}, "train#draws is now train#epoch_sampler"),
        ("", {"options#symmetries": "flips"}, "options#symmetries is now options#tta: write --options#tta flips"),
    ],
)
def test_every_way_to_an_old_key_is_refused_in_every_run_of_a_process(bundle, overlay, given, message):
    assert monai_run(bundle).startswith("['none', 2, 'model.pt'")
    for _ in range(2):
        with pytest.raises(SystemExit) as leaving:
            monai_run(bundle, own(bundle, overlay or "tta: none\n"), **given)
        assert leaving.value.code == f"error: {message}"


def test_a_workflow_made_in_python_is_refused_too(bundle):
    workflow = ConfigWorkflow(str(bundle / "configs" / "inference.yaml"), bundle_root=str(bundle), symmetries="all")
    workflow.initialize()
    with pytest.raises(SystemExit, match="symmetries is now tta"):
        workflow.run()


def test_a_key_that_is_not_renamed_and_a_config_of_the_previous_version_pass(bundle):
    assert monai_run(bundle, own(bundle, "labels: 3\n"), tta="flips").startswith("['flips', 2")
    older = ConfigParser({"symmetries": "all", "it": {"_target_": "common.renamed_keys.refuse_old_keys"}})
    assert older.get_parsed_content("it") is None


def test_without_a_config_there_is_nothing_to_check():
    with pytest.raises(RuntimeError, match="component of a config"):
        refuse_old_keys()


# ---- parameters and records


@takes_old_names
class Options:
    """Stands for a class with renamed parameters."""

    def __init__(self, context: str = "shared", tta: str = "none") -> None:
        self.context, self.tta = context, tta


def test_a_class_takes_a_parameter_by_its_old_name_with_a_warning():
    with pytest.warns(FutureWarning, match="^Options: symmetries is now tta$"):
        assert Options("per_patch", symmetries="all").tta == "d4"  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="tta and symmetries are the same"):
        Options(tta="none", symmetries="all")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'readers'"):
        Options(readers=3)  # type: ignore[call-arg]


def test_settings_that_the_previous_version_recorded_compare_by_their_new_names():
    then = {"options": {"symmetries": "all", "batch_size": 8}, "config": {"row": "a", "o": ["@row", {"s": "@readers"}]}}
    now = {
        "options": {"tta": "d4", "batch_size": 8},
        "config": {"variant": "a", "o": ["@variant", {"s": "@reader_threads"}]},
    }
    assert differences(then, now) == []
    now["options"]["tta"] = "flips"
    assert differences(then, now) == ["options.tta is 'd4' there, 'flips' now"]
    assert differences({"row": 1, "variant": 2}, {"variant": 2}) == ["row is 1 there, not set now"]


@pytest.mark.parametrize("before", [6, "$@scheme.num_channels", "$@scheme.num_channels - 1"])
def test_a_network_that_the_previous_version_recorded_is_the_same_network(before):
    old = {"network_def": {"_target_": "common.networks.MRN", "num_classes": before}}
    now = {
        "network_def": {
            "_target_": "common.networks.MRN",
            "out_channels": "$@scheme.num_channels",
            "output_norm": "@output_norm",
        },
        "output_norm": False,
    }
    assert differences(old, now) == []
    assert differences(old, {**now, "output_norm": True}) == ["output_norm is not set there, True now"]
    other = {"network_def": {**now["network_def"], "out_channels": 9}, "output_norm": False}
    assert len(differences(old, other)) == 1
