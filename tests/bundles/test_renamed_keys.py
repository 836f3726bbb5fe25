"""The bundles' own keys are those of this version; those of the previous one are translated or refused."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import yaml
from monai.bundle import ConfigParser, run

from common.bundle.keys import config_files, known_settings
from common.bundle.parser import bundle_parser
from common.data import MultiMagnificationPatchDataset, SeededDistributedSampler
from common.data.inspection import PatchSettings
from common.inference import InferenceOptions
from common.metrics import ClassCurves, SlideConfusion
from common.renamed_keys import CONFIGS, KEYS
from tests.bundles.commands import configs_of
from tests.conftest import DMMN, MULTILEVEL, REPOSITORY

CONFIG_FILES = sorted(REPOSITORY.glob("bundles/*/configs/**/*.yaml"))
# Old names that are the names of parameters, too, which have not changed: cycle of a sampler, classes of a score.
_STILL_PARAMETERS = {"classes", "cycle", "further_targets"}
OTSU = {"otsu": "$None"}


def names_in(value: object, top: bool = True) -> set[str]:
    """Return all keys in a config, however deep."""
    if isinstance(value, list):
        return {name for part in value for name in names_in(part, False)}
    if not isinstance(value, dict):
        return set()
    own = {part for key in value for part in re.split("#|::", str(key).lstrip("+"))}
    return (own if top else own - _STILL_PARAMETERS) | {n for part in value.values() for n in names_in(part, False)}


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: "-".join(path.parts[-3:]))
def test_no_config_has_an_old_key_or_refers_to_one(path):
    text = path.read_text(encoding="utf-8")
    assert not names_in(yaml.safe_load(text)) & set(KEYS)
    assert not set(re.findall(r"(?<=@)[a-z_]\w*", text)) & set(KEYS)
    assert path.name not in CONFIGS


def test_every_new_key_is_one_of_some_config():
    known = set().union(*(names_in(yaml.safe_load(path.read_text(encoding="utf-8"))) for path in CONFIG_FILES))
    assert {name for names in KEYS.values() for name in names} <= known
    assert set(CONFIGS.values()) <= {path.name for path in CONFIG_FILES}


@pytest.mark.parametrize("path", [p for p in CONFIG_FILES if "@check_views" in p.read_text()], ids=str)
def test_every_run_that_checks_its_views_checks_its_keys_first(path):
    steps = yaml.safe_load(path.read_text(encoding="utf-8"))["run"]
    assert steps.index("@check_keys") < steps.index("@check_views")


def test_commands_translate_the_keys_of_inference_and_training():
    inference = known_settings("dmmn", ["inference.yaml"], {"symmetries": "all", "readers": 4})
    assert inference == {"tta": "d4", "reader_threads": 4}
    given = {"restart": "a.pt", "start_from": "b.pt", "rates": {"stroma": 1}, "train#draws#seed": 3, "otsu": None}
    assert known_settings("dmmn", ["train.yaml", "evaluate.yaml"], given) == {
        "resume": "a.pt",
        "init_weights": "b.pt",
        "elastic_copies": {"stroma": 1},
        "train#epoch_sampler#seed": 3,
        "background": "keep",
    }
    assert known_settings("mrn", ["train.yaml"], {"encoders_from": {3: "a.pt"}}) == {"encoder_weights": {3: "a.pt"}}
    given = {"train#dataset#otsu": False, "otsu": "skipped", "batch_mix": ["tumour"], "cycle": 5}
    assert known_settings("multilevel_unet", ["train.yaml", "evaluate.yaml"], given) == {
        "train#dataset#tissue_only": False,
        "background": "as_class",
        "batch_classes": ["tumour"],
        "lr_cycle_steps": 5,
    }


def test_an_overlay_of_the_previous_version_changes_what_it_did(tmp_path):
    overlay = tmp_path / "own.yaml"
    overlay.write_text("symmetries: all\nreaders: 7\n")
    options = bundle_parser("dmmn", ["inference.yaml", str(overlay)]).get_parsed_content("inferer#options")
    assert (options.tta, options.reader_threads) == ("d4", 7)
    overlay.write_text("classes: [stroma]\notsu: skipped\n")
    parser = bundle_parser("dmmn", ["train.yaml", "evaluate.yaml", str(overlay)])
    assert parser.get_parsed_content("scored_classes") == ["stroma"]
    assert (parser["background"], parser["context_reliance#classes"]) == ("as_class", "@scored_classes")


@pytest.mark.parametrize(
    ("bundle", "configs", "given", "message"),
    [
        (DMMN, ["inference.yaml"], {"symmetries": "flips"}, "symmetries is now tta: write --tta flips"),
        (DMMN, ["train.yaml"], {"restart": "a.pt"}, "restart is now resume: write --resume a.pt"),
        (MULTILEVEL, ["train.yaml", "evaluate.yaml"], OTSU, "otsu is now background: write --background keep"),
    ],
)
def test_monai_alone_stops_at_an_old_key_before_anything_is_read(bundle, configs, given, message, tmp_path):
    with contextlib.chdir(tmp_path), pytest.raises(SystemExit) as leaving:
        run(config_file=configs_of(bundle, *configs), bundle_root=str(bundle), **given)
    assert leaving.value.code == f"error: {message}"


def test_components_take_their_old_parameters(scheme):
    with pytest.warns(FutureWarning, match="InferenceOptions: symmetries is now tta"):
        options = InferenceOptions(symmetries="all", readers=3)  # type: ignore[call-arg]
    assert options == InferenceOptions(tta="d4", reader_threads=3)
    with pytest.warns(FutureWarning, match="SlideConfusion: otsu is now background"):
        assert SlideConfusion(scheme, 1, otsu="skipped").background == "as_class"  # type: ignore[call-arg]
    with pytest.warns(FutureWarning, match="ClassCurves: otsu is now background"):
        assert ClassCurves(scheme, otsu=None).background == "keep"  # type: ignore[call-arg]
    view = {"mpp": 1.0, "size": 64}
    with pytest.warns(FutureWarning, match="PatchSettings: otsu is now tissue_only"):
        assert PatchSettings([view], view, otsu=True).tissue_only is True  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="elastic_copies and rates are the same"):
        MultiMagnificationPatchDataset([], scheme, [view], view, elastic_copies={}, rates={})  # type: ignore[call-arg]


def test_a_config_of_the_previous_version_that_is_whole_runs_as_it_did():
    older = ConfigParser(
        {
            "symmetries": "all",
            "options": {"_target_": "common.inference.InferenceOptions", "symmetries": "@symmetries"},
            "draws": {"_target_": "common.data.NumberedDraws", "sampler": "$range(4)", "seed": 1},
        }
    )
    with pytest.warns(FutureWarning):
        assert older.get_parsed_content("options").tta == "d4"
    with pytest.warns(FutureWarning):
        assert isinstance(older.get_parsed_content("draws"), SeededDistributedSampler)


def test_the_config_of_patches_on_disk_is_found_by_its_old_name():
    (found,) = config_files("mrn", ["packed.yaml"])
    assert found == Path(found.parent / "patch_cache.yaml")
