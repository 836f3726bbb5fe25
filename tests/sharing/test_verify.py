"""Each fault is found and named, and a bundle with one is not run."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch

from common.sharing import verify_bundle
from common.sharing.archive import BundleFileError, write_checksums, write_zip
from tests.bundles.commands import run_common
from tests.conftest import DMMN, MRN


def problems(bundle: Path) -> list[str]:
    """Return the problems found without running the bundle, after updating its checksums."""
    write_checksums(bundle)
    return [problem for finding in verify_bundle(bundle, run=False) for problem in finding.problems]


def test_an_exported_bundle_is_well(unpacked_bundle):
    assert problems(unpacked_bundle) == []


class Evil:
    """Leaves a file behind if it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_pickled_code_is_refused_and_not_run(unpacked_bundle, tmp_path):
    mark = tmp_path / "was_run"
    torch.save({"model": Evil(mark)}, unpacked_bundle / "models" / "model.pt")
    assert "pickled code" in problems(unpacked_bundle)[0]
    (unpacked_bundle / "models" / "model.pt").write_bytes(pickle.dumps(Evil(mark)))
    assert "pickled code" in problems(unpacked_bundle)[0]
    assert not mark.exists()
    write_zip(unpacked_bundle, tmp_path / "evil.zip")
    found = verify_bundle(tmp_path / "evil.zip")
    # Nor are they the weights that models/model.json describes.
    expected = ["weights without pickled code", "what the weights are for"]
    assert [finding.check for finding in found if finding.problems] == expected
    assert "trains" not in [finding.check for finding in found]
    assert not mark.exists()


def change_metadata(bundle: Path, **values: object) -> None:
    path = bundle / "configs" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def append(bundle: Path, name: str, text: str) -> None:
    with (bundle / name).open("a") as file:
        file.write(text)


# File, line and remedy in one line.
BROKEN = r"^\S*scripts/classes\.py: .*{}.*\. Correct it, or export the bundle again$"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda b: (b / "LICENSE").unlink(), "LICENSE is missing"),
        (lambda b: (b / "docs" / "data_license.txt").write_text(""), "data_license.txt is missing or empty"),
        (lambda b: (b / "models" / "model.pt").unlink(), "models/model.pt is missing"),
        (lambda b: (b / "run.sh").write_text("true"), "run.sh: a link, or no kind"),
        (lambda b: (b / "docs" / "more.md").symlink_to(b / "LICENSE"), "docs/more.md: a link"),
        (lambda b: change_metadata(b, version="2.0"), "version is not in the changelog"),
        (lambda b: change_metadata(b, changelog=None), "changelog is missing"),
        (lambda b: change_metadata(b, required_packages_version=[]), "required_packages_version is missing"),
        (lambda b: append(b, "configs/train.yaml", "a: [1\n"), "cannot be read .*Error"),
        (lambda b: (b / "scripts" / "classes.py").write_text("\ndef (\n"), BROKEN.format("line 2: not Python")),
        (lambda b: (b / "scripts" / "classes.py").write_text("\n\0"), BROKEN.format(r"line 2: not Python \(.*null")),
        (lambda b: (b / "scripts" / "classes.py").write_text("-" * 100_000 + "1"), BROKEN.format("nested too deeply")),
        (lambda b: (b / "configs" / "more.json").write_text('{"x": "common.losses.L"}'), r"more\.json: names common"),
        (lambda b: append(b, "configs/train.yaml", "more: /slides\n"), "/slides is a place"),
        (lambda b: append(b, "configs/train.yaml", "more: D:/slides\n"), "D:/slides is a place"),
        (lambda b: append(b, "configs/train.yaml", "more: [{a: ~/slides}]\n"), "~/slides is a place"),
        (lambda b: (b / "models" / "model.pt2").write_bytes(pickle.dumps([1])), "no torch.export file"),
        (lambda b: (b / "models" / "evil.PT").write_bytes(b"x"), "evil.PT: a link, or no kind"),
        (lambda b: change_metadata(b, authors=None), "authors is missing or no str"),
        (lambda b: change_metadata(b, required_packages_version={"zarr": "any"}), "zarr has no version"),
        (lambda b: change_metadata(b, network_data_format={"inputs": {}}), "inputs: image: is missing"),
        (lambda b: append(b, "configs/train.yaml", "# see /home/me/slides\n"), r"/home/me/slides is a place"),
        (lambda b: append(b, "docs/README.md", "C:\\slides\n"), r"C:\\slides is a place"),
        (lambda b: append(b, "configs/train.yaml", "more: {_target_: common.losses.Loss}\n"), r"names common\.losses"),
        (lambda b: append(b, "configs/train.yaml", "m: {_target_: scripts.nothing.X}\n"), "there is no module"),
        (lambda b: append(b, "configs/patch_cache.yaml", "initialize: [$scripts.classes.a()]\n"), "not importable yet"),
        (lambda b: append(b, "scripts/classes.py", "import common.losses\n"), "classes.py, line .*imports common"),
        (lambda b: (b / "scripts" / "files.py").unlink(), "there is no module"),
        (lambda b: shutil.rmtree(b / "scripts"), "no folder scripts"),
    ],
)  # fmt: skip
def test_every_fault_is_named(change, match, unpacked_bundle):
    change(unpacked_bundle)
    found = problems(unpacked_bundle)
    assert any(re.search(match, problem) for problem in found), found


def test_weights_that_differ_are_found(unpacked_bundle):
    path = unpacked_bundle / "models" / "model.pt"
    state = torch.load(path, weights_only=True)
    next(iter(state.values())).mul_(2)
    torch.save(state, path)
    assert "hold different weights" in problems(unpacked_bundle)[0]


def test_a_changed_file_is_found_by_its_sum(unpacked_bundle):
    append(unpacked_bundle, "configs/train.yaml", "# more\n")
    found = {finding.check: finding.problems for finding in verify_bundle(unpacked_bundle, run=False)}
    assert "train.yaml: its SHA-256 is not" in found["sums of all files"][0]


def test_a_bundle_of_this_project_says_what_it_lacks():
    found = [problem for finding in verify_bundle(MRN, run=False) for problem in finding.problems]
    assert "models/model.pt is missing or empty. Export the bundle with its checkpoint" in found
    assert any("only this project has. Export the bundle" in problem for problem in found)
    printed = run_common("verify", DMMN, "--run", "False", check=False)
    assert "FAILED carries what it runs on" in printed
    assert "ok     metadata" in printed
    assert "trains" not in printed


def test_a_bundle_that_reaches_for_the_project_at_run_time_is_found(unpacked_bundle):
    """The imports do not show it, but this project's package cannot be imported at run time."""
    append(unpacked_bundle, "scripts/classes.py", "\n\n__import__('com' + 'mon.files')\n")
    write_checksums(unpacked_bundle)
    found = verify_bundle(unpacked_bundle)
    assert [finding.check for finding in found if finding.problems] == [found[-1].check]
    assert "No module named 'common'" in found[-1].problems[0]


def test_an_unfit_zip_is_no_bundle(tmp_path):
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(BundleFileError, match="not a complete zip file"):
        verify_bundle(tmp_path / "bad.zip")


def test_metadata_of_other_weights_are_found_and_missing_ones_noted(unpacked_bundle):
    described = unpacked_bundle / "models" / "model.json"
    described.write_text(json.dumps({**json.loads(described.read_text()), "sha256": "0" * 64}))
    assert problems(unpacked_bundle) == [
        "models/model.json describes other weights than models/model.pt. Export the bundle again"
    ]
    described.write_text("{")
    assert "model.json: no JSON that can be read" in problems(unpacked_bundle)[0]
    described.unlink()
    assert problems(unpacked_bundle) == []
    notes = {finding.check: finding.notes for finding in verify_bundle(unpacked_bundle, run=False)}
    assert notes["what the weights are for"] == ("no models/model.json: what the weights are for is not said",)
