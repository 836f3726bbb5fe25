"""Bundles by name, and keys that their configs know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.bundle.find import find_bundle, known_bundles, listed_bundles, short_name, trained_as
from common.bundle.job import CHOICES, run_evaluation, run_inference, run_training
from common.bundle.keys import check_keys, check_overlays, checked_settings, checkpoint_of, config_files
from common.bundle.run import command_line, run_configs
from common.inference.options import CONTEXTS, DTYPES, TTA

from ..conftest import DMMN, MRN

# SHA-256 of a file without content.
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
INFERENCE = [DMMN / "configs" / "inference.yaml"]


def test_bundles_are_found_by_name_short_name_and_folder(tmp_path):
    assert find_bundle("pathology_mrn_segmentation") == find_bundle("mrn") == find_bundle(MRN) == MRN
    assert sorted(map(short_name, known_bundles())) == [
        "da_refinenet",
        "dmmn",
        "mrn",
        "multilevel_unet",
        "multires_encdec",
    ]
    with pytest.raises(ValueError, match="dmnn: no such bundle.*Did you mean dmmn"):
        find_bundle("dmnn")
    with pytest.raises(ValueError, match=r"is not a bundle: it has no configs/metadata\.json"):
        find_bundle(tmp_path)


def test_the_list_of_bundles_says_where_they_are_and_what_weights_they_have():
    lines = listed_bundles().splitlines()
    assert "dmmn: Multi-class breast tissue segmentation of whole slide images at several magnifications" in lines
    assert f"    folder:  {DMMN}" in lines
    assert "demo.pt" in lines[lines.index(f"    folder:  {DMMN}") - 1]


def test_keys_that_no_config_knows_are_refused_with_the_nearest_known_one():
    check_keys(INFERENCE, ["context", "evaluator#val_handlers", "dataset::mpp", "scheme#classes#0#name"])
    for key, message in {
        "contex": r"inference\.yaml: no key 'contex'\. Did you mean context\?",
        "tisue": "Did you mean tissue",
        "evaluater#device": "no key 'evaluater#device'. Did you mean evaluator",
        "evaluator#devise": r"no place 'evaluator#devise'\.$",
        "scheme#classes#9#name": "no place",
        "xyzzy": r"no key 'xyzzy'\.$",
    }.items():
        with pytest.raises(ValueError, match=message):
            check_keys(INFERENCE, [key])


def test_a_missing_config_names_the_nearest_one():
    with pytest.raises(ValueError, match=r"demmo\.yaml: no such config.*Did you mean demo\.yaml"):
        config_files("dmmn", ["demmo.yaml"])


def test_an_overlay_of_your_own_with_an_unknown_key_is_refused(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("channels: [8, 16]\nnetwork_def#channels: '@channels'\nepochs: 3\n")
    check_overlays(DMMN, [DMMN / "configs" / "train.yaml", own])
    own.write_text("batchsize: 3\n")
    with pytest.raises(ValueError, match=r"own\.yaml: no config of .* knows or uses the key 'batchsize'.*batch_size"):
        check_overlays(DMMN, [DMMN / "configs" / "train.yaml", own])


def test_an_overlay_that_is_no_yaml_names_its_line(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("epochs: 3\nclasses: [a\n")
    with pytest.raises(ValueError, match=r"own\.yaml, line 3: not YAML"):
        check_keys([own], [])


def test_the_checkpoint_of_configs_is_known_before_they_are_loaded():
    assert checkpoint_of(INFERENCE, DMMN) == DMMN / "models" / "model.pt"
    assert checkpoint_of(config_files("dmmn", ["inference.yaml", "demo.yaml"]), DMMN) == DMMN / "models" / "demo.pt"


@pytest.fixture
def nothing_loads(monkeypatch):
    """Fail whatever runs a config."""

    def run(*_):
        raise AssertionError("a config was run")

    monkeypatch.setattr("common.bundle.job.run_configs", run)


@pytest.fixture
def runs(monkeypatch) -> list:
    """Collect what would be run."""
    found: list = []
    monkeypatch.setattr("common.bundle.job.run_configs", lambda *given: found.append(given))
    return found


@pytest.fixture
def slide(tmp_path: Path) -> str:
    (tmp_path / "a.svs").write_bytes(b"")
    return str(tmp_path / "a.svs")


@pytest.mark.usefixtures("nothing_loads")
def test_what_is_wrong_with_a_command_is_said_before_anything_is_loaded(slide, tmp_path):
    with pytest.raises(ValueError, match="no key 'tisue'. Did you mean tissue"):
        run_inference([slide], None, None, (), "out", {"tisue": True})
    with pytest.raises(ValueError, match=r"no_such\.svs: no such file"):
        run_inference([str(tmp_path / "no_such.svs")], None, None, (), "out", {})
    with pytest.raises(ValueError, match=r"no file matches '.*\*\.ndpi'"):
        run_inference([str(tmp_path / "*.ndpi")], None, None, (), "out", {})
    with pytest.raises(ValueError, match=r"model\.pt: no such checkpoint"):
        run_inference([slide], None, str(tmp_path / "model.pt"), (), "out", {})
    with pytest.raises(ValueError, match="name at least one slide"):
        run_inference([], None, None, (), "out", {})
    with pytest.raises(ValueError, match="no key 'epoch'. Did you mean epochs"):
        run_training(slide, "dmmn", (), "out", {"epoch": 3})
    with pytest.raises(ValueError, match=r"list\.json: no such file"):
        run_training(str(tmp_path / "list.json"), "dmmn", (), "out", {})
    with pytest.raises(ValueError, match=r"model\.pt: no such checkpoint"):
        run_evaluation(slide, str(tmp_path / "model.pt"), None, (), "out", {})


def test_without_weights_of_its_own_a_bundle_shows_the_demonstration_or_says_how_to_train(slide, runs):
    if (DMMN / "models" / "model.pt").exists():
        pytest.skip("this checkout has trained weights")
    run_inference([slide], None, None, (), "out", {"mpp": 0.5})
    ((bundle, files, settings),) = runs
    assert bundle == DMMN
    assert [path.name for path in files] == ["inference.yaml", "demo.yaml"]
    assert settings == {"slides": slide, "output_dir": "out", "mpp": 0.5}
    with pytest.raises(ValueError, match=r"no weights yet\. Train some \(multimag train DATALIST --bundle mrn"):
        run_inference([slide], "mrn", None, (), "out", {})


def test_a_checkpoint_brings_its_bundle_and_overlays_along(slide, tmp_path, runs):
    (tmp_path / "model.pt").write_bytes(b"")
    metadata = {"bundle": "pathology_mrn_segmentation", "overlays": ["ablations/mrn_2.yaml"], "sha256": EMPTY}
    (tmp_path / "model.json").write_text(json.dumps(metadata))
    checkpoint = str(tmp_path / "model.pt")
    assert trained_as(checkpoint) == ("pathology_mrn_segmentation", ["ablations/mrn_2.yaml"])
    run_inference([slide], None, checkpoint, (), "out", {})
    run_evaluation(slide, checkpoint, None, (), "out", {})
    # What is said counts.
    run_inference([slide], None, checkpoint, ["ablations/mrn_3.yaml"], "out", {})
    assert [(bundle.name, [path.name for path in files]) for bundle, files, _ in runs] == [
        ("pathology_mrn_segmentation", ["inference.yaml", "mrn_2.yaml"]),
        ("pathology_mrn_segmentation", ["train.yaml", "evaluate.yaml", "mrn_2.yaml"]),
        ("pathology_mrn_segmentation", ["inference.yaml", "mrn_3.yaml"]),
    ]


def test_training_resumes_and_says_that_the_paper_s_settings_take_days(slide, runs, caplog):
    run_training(slide, "dmmn", (), "out", {})
    assert "take days" in caplog.text
    caplog.clear()
    run_training(slide, "dmmn", ["demo.yaml"], "out", {"epochs": 2})
    assert "take days" not in caplog.text
    settings = runs[1][2]
    assert settings["resume"] == str(Path("out") / "restart.pt")
    assert settings["checkpoint_dir"] == settings["output_dir"] == "out"
    assert settings["overlays"] == ["demo.yaml"]
    assert settings["epochs"] == 2


def test_the_equal_command_can_be_pasted():
    line = command_line(Path("b"), [Path("b/a.yaml"), Path("b/c d.yaml")], {"slides": "my slide.svs", "mpp": None})
    assert line == (
        "python -m monai.bundle run --config_file \"['b/a.yaml', 'b/c d.yaml']\" --bundle_root b "
        "--slides 'my slide.svs' --mpp '$None'"
    )


def test_choices_are_those_of_the_engine():
    assert CHOICES == {"context": CONTEXTS, "tta": TTA, "dtype": DTYPES}


@pytest.mark.usefixtures("nothing_loads")
def test_values_that_can_be_known_are_refused_before_anything_is_loaded(slide, tmp_path):
    with pytest.raises(ValueError, match="--context must be one of per_patch, shared, seamless, not 'sharde'. Did you"):
        run_inference([slide], None, None, (), "out", {"context": "sharde"})
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(ValueError, match=r"model\.json describes a checkpoint\. Name the weights, .*model\.pt"):
        run_inference([slide], None, str(tmp_path / "model.json"), (), "out", {})


def test_a_name_that_looks_like_an_expression_stays_a_name(tmp_path, monkeypatch, runs):
    monkeypatch.chdir(tmp_path)
    for name in ("$print('x').svs", "@slides.svs", "%a.svs"):
        Path(name).touch()
        run_inference([name], None, None, (), name, {})
        assert runs.pop()[2] == {"slides": f"./{name}", "output_dir": f"./{name}"}


@pytest.mark.parametrize(
    "content",
    [
        {"bundle": "pathology_mrn_segmentation", "overlays": ["ablations/mrn_2.yaml"], "sha256": 64 * "0"},
        {"bundle": ["x"], "overlays": 7, "sha256": EMPTY},
        ["x"],
    ],
)
def test_metadata_of_another_file_and_damaged_ones_decide_nothing(tmp_path, content):
    (tmp_path / "model.pt").write_bytes(b"")
    (tmp_path / "model.json").write_text(json.dumps(content))
    assert trained_as(tmp_path / "model.pt") == (None, [])
    (tmp_path / "model.json").write_text(100_000 * "[")
    assert trained_as(tmp_path / "model.pt") == (None, [])


@pytest.mark.usefixtures("nothing_loads")
@pytest.mark.parametrize("name", ["evil.yaml", "../../../../evil.yaml", "/evil.yaml"])
def test_configs_that_only_a_file_next_to_weights_names_are_not_run(slide, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("evil.yaml").write_text("run: [$print('x')]\n")
    Path("model.pt").write_bytes(b"")
    metadata = {"bundle": "pathology_mrn_segmentation", "overlays": [name], "sha256": EMPTY}
    Path("model.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"trained with .*evil\.yaml, which is no config of .*--config PATH"):
        run_inference([slide], None, "model.pt", (), "out", {})


def test_values_are_what_the_configs_have():
    assert checked_settings(INFERENCE, {"outputs": "overlay.png,summary.json", "mpp": 0.5, "batch_size": 4}) == {
        "outputs": ["overlay.png", "summary.json"],
        "mpp": 0.5,
        "batch_size": 4,
    }
    assert checked_settings(INFERENCE, {"tissue": True, "compile": True}) == {"tissue": True, "compile": True}
    for key, value, message in (
        ("mpp", True, "--mpp needs a value"),
        ("batch_size", "big", "--batch_size must be a number, not 'big'"),
        ("overlap", (0, 5), r"--overlap must be a number, not \(0, 5\)"),
        ("outputs", True, "--outputs needs a value"),
    ):
        with pytest.raises(ValueError, match=message):
            checked_settings(INFERENCE, {key: value})


def test_paths_that_monai_would_change_reach_the_configs_as_they_are(tmp_path):
    bundle = tmp_path / "b #1"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs" / "metadata.json").write_text("{}")
    config = bundle / "configs" / "inference.yaml"
    config.write_text(
        "bundle_root: '.'\nslides: a\noutput_dir: b\nname_by: null\n"
        "run: [\"$open(@bundle_root + '/seen', 'w').write(repr([@slides, @output_dir + '/x', @name_by]))\"]\n"
    )
    run_configs(bundle, [config], {"slides": ["h #1.svs", "2023"], "output_dir": "run #1", "name_by": None})
    assert (bundle / "seen").read_text() == "[['h #1.svs', '2023'], 'run #1/x', None]"
