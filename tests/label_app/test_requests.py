"""Allowed values of requests, refused requests, and the files that an id leads to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.label_app import request_values
from common.label_app.access import TOKEN_VARIABLE, admitted, checked_token, refusal
from common.label_app.datastore import StudiesOnly
from common.label_app.request_values import (
    TRAINING_SETTINGS,
    RequestError,
    checked_name,
    inference_values,
    slide_of,
    training_values,
)
from tests.conftest import REPOSITORY

_TOKEN = "0123456789abcdef-token"
_ATTACKS = ("$__import__('os').system('touch /tmp/x')", "@network", "%train.yaml", ["$1"], {"_target_": "os.system"})


@pytest.mark.parametrize("value", _ATTACKS)
@pytest.mark.parametrize(
    "key", [*TRAINING_SETTINGS, "max_epochs", "val_split", "pretrained", "gpus", "device", "mpp", "origin"]
)
def test_no_expression_passes_as_a_value_of_a_training(key, value):
    with pytest.raises(RequestError, match=f"^{key} is "):
        training_values({key: value})


@pytest.mark.parametrize("value", _ATTACKS)
@pytest.mark.parametrize("key", ["mpp", "location", "size", "min_poly_area", "device", "output", "origin", "series"])
def test_no_expression_passes_as_a_value_of_a_prediction(key, value):
    with pytest.raises(RequestError, match=f"^{key} is "):
        inference_values({key: value})


def test_values_get_the_declared_types_and_nothing_else_passes(monkeypatch):
    monkeypatch.setattr(request_values, "gpu_names", list)
    request = {
        "seed": "7", "batch_size": 4.0, "learning_rate": "1e-4", "max_epochs": 2, "val_split": 0, "pretrained": "true",
        "device": ["cuda:1 (some GPU)", "cpu"], "model_filename": ["model.pt"], "gpus": "0,1", "tracking_uri": "",
        "series": "1", "run_id": "$evil", "train#trainer#_target_": "os.system", "imports": ["$import os"],
    }  # fmt: skip
    found = training_values(request)
    assert found == {
        "seed": 7, "batch_size": 4, "learning_rate": 1e-4, "max_epochs": 2, "val_split": 0.0, "pretrained": True,
        "device": "cuda:1", "model_filename": "model.pt", "gpus": "0,1", "series": 1,
    }  # fmt: skip
    assert [type(found[key]) for key in ("seed", "batch_size", "learning_rate", "val_split")] == [
        int,
        int,
        float,
        float,
    ]
    assert training_values({"origin": ["bounds", "slide"]}) == inference_values({"origin": "bounds"})
    asked = {"location": [200, 600], "size": [0, 0], "level": 0, "tile_size": [1, 1], "output": "asap", "mpp": None}
    assert inference_values(asked) == {"location": [200, 600], "size": [0, 0], "output": "asap"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("seed", value) for value in (1.5, -1, True, "nan", float("inf"), 2**40)],
        *[("batch_size", 0), ("val_split", 1.0), ("pretrained", "perhaps"), ("device", "cudax"), ("gpus", "0;1")],
        *[("model_filename", "../../other.pt"), ("model", "../x"), ("mpp", 0)],
    ],
)
def test_values_out_of_range_are_refused(key, value):
    with pytest.raises(RequestError, match=f"^{key} is "):
        training_values({key: value})


@pytest.mark.parametrize(
    "name", ["../a", "a/b", "a\\b", "/etc/passwd", "..", ".hidden", "", "a\n", "a\x1b[2J", "C:a", 3]
)
def test_an_id_is_no_path(name):
    with pytest.raises(RequestError, match="give a name without slashes"):
        checked_name(name)


@pytest.fixture
def studies(tmp_path) -> Path:
    folder = tmp_path / "studies"
    (folder / "labels" / "final").mkdir(parents=True)
    (folder / "a.b.svs").write_bytes(b"slide")
    (tmp_path / "secret.svs").write_bytes(b"secret")
    return folder


def test_a_slide_is_reached_by_its_id_in_the_folder_only(studies, tmp_path):
    uris = {"a.b": str(studies / "a.b.svs"), "out": str(tmp_path / "secret.svs"), "gone": str(studies / "gone.svs")}

    def uri_of(name):
        return uris.get(name, "")

    assert slide_of("a.b", uri_of, studies) == str(studies / "a.b.svs")
    for name in ("out", "gone", "none"):
        with pytest.raises(RequestError, match="There is no slide"):
            slide_of(name, uri_of, studies)
    # A path of a file that is there is no id, even within the folder.
    for path in (tmp_path / "secret.svs", studies / "a.b.svs"):
        with pytest.raises(RequestError, match="not the id of an image"):
            slide_of(str(path), uri_of, studies)
    # Whoever owns the folder may keep slides elsewhere.
    (studies / "linked.svs").symlink_to(tmp_path / "secret.svs")
    uris["linked"] = str(tmp_path / "secret.svs")
    assert slide_of("linked", uri_of, studies) == uris["linked"]


class _Files:
    """Writes as MONAI Label's local datastore does: ids and tags are parts of paths, unchecked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._datastore = folder, self

    def image_path(self) -> str:
        return str(self.folder)

    def label_path(self, tag: str) -> str:
        return str(self.folder / "labels" / tag)

    def get_image_uri(self, image_id: str) -> str:
        path = self.folder / f"{image_id}.svs"
        return str(path) if path.exists() else ""

    def add_image(self, image_id: str, image_filename: str, image_info: dict) -> str:
        (self.folder / f"{image_id}.svs").write_bytes(Path(image_filename).read_bytes())
        return image_id

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict) -> str:
        to = self.folder / "labels" / label_tag / f"{image_id}.xml"
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(Path(label_filename).read_bytes())
        return image_id

    def remove_image(self, image_id: str) -> None:
        (self.folder / f"{image_id}.svs").unlink()


class _Store(StudiesOnly, _Files):
    pass


def test_nothing_is_written_or_deleted_outside_of_the_folder(studies, tmp_path):
    store, upload = _Store(studies), tmp_path / "upload"
    upload.write_bytes(b"new")
    store.add_image("new", str(upload), {})
    store.save_label("a.b", str(upload), "final", {})
    assert (studies / "new.svs").read_bytes() == (studies / "labels" / "final" / "a.b.xml").read_bytes() == b"new"
    for attack in (
        lambda: store.add_image("../evil", str(upload), {}),
        lambda: store.save_label("a.b", str(upload), "../../evil", {}),
        lambda: store.save_label("../evil", str(upload), "final", {}),
        lambda: store.remove_image("../secret"),
        lambda: store.get_image_uri("../secret"),
    ):
        with pytest.raises(RequestError, match="without slashes"):
            attack()
    (studies / "linked.svs").symlink_to(tmp_path / "secret.svs")
    (studies / "labels" / "final" / "linked.xml").symlink_to(tmp_path / "secret.svs")
    for attack in (
        lambda: store.add_image("linked", str(upload), {}),
        lambda: store.save_label("linked", str(upload), "final", {}),
    ):
        with pytest.raises(RequestError, match="is a link"):
            attack()
    with pytest.raises(RequestError, match="already"):
        store.add_image("a.b", str(upload), {})
    assert (studies / "a.b.svs").read_bytes() == b"slide"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret.svs", "studies", "upload"]
    assert (tmp_path / "secret.svs").read_bytes() == b"secret"


def test_only_requests_with_the_token_are_answered():
    assert admitted("/info/", None, None) == "/info/"
    assert admitted("/info/", f"Bearer {_TOKEN}", _TOKEN) == "/info/"
    assert admitted(f"/{_TOKEN}/infer/wsi/model", None, _TOKEN) == "/infer/wsi/model"
    for path, authorization in [
        ("/info/", None),
        ("/info/", _TOKEN),
        ("/info/", f"Basic {_TOKEN}"),
        ("/info/", f"Bearer {_TOKEN[:-1]}"),
        (f"/{_TOKEN}x/info/", None),
        (f"/info/{_TOKEN}", None),
        (f"/info?token={_TOKEN}", None),
    ]:
        assert admitted(path, authorization, _TOKEN) is None


@pytest.mark.parametrize("path", ["/proxy/dicom", "/session/", "/ohif/", "//proxy", "/INFO"])
def test_parts_that_reach_elsewhere_are_not_served(path):
    assert admitted(path, None, None) is None
    assert admitted(f"/{_TOKEN}{path}", None, _TOKEN) is None


def test_pages_of_other_places_are_refused():
    assert refusal("127.0.0.1", "http", {"host": "127.0.0.1:8000"}) is None
    assert refusal("localhost", "http", {"host": "localhost:8000", "origin": "http://localhost:8000"}) is None
    for host, origin in [("127.0.0.1", "http://example.org"), ("127.0.0.1", "null"), ("example.org", None)]:
        headers = {"host": f"{host}:8000", **({"origin": origin} if origin else {})}
        assert "on this machine only" in refusal(host, "http", headers)


def test_a_token_that_could_be_guessed_stops_the_start(tmp_path):
    assert checked_token({}) is None
    assert checked_token({TOKEN_VARIABLE: ""}) is None
    assert checked_token({TOKEN_VARIABLE: _TOKEN}) == _TOKEN
    start = [sys.executable, str(REPOSITORY / "common" / "label_app" / "start.py"), str(tmp_path)]
    done = subprocess.run(
        [*start, "--studies", str(tmp_path), "--work", str(tmp_path / "work")],
        env={TOKEN_VARIABLE: "short"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == f"error: {TOKEN_VARIABLE}: give 16 to 128 letters, digits, - or _"


H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"


@pytest.mark.parametrize(
    ("names", "asked", "device"),
    [
        ([H100], H100, "cuda"),
        ([H100], [H100, "cpu"], "cuda"),
        ([H100, H100], f"{H100}:1", "cuda:1"),
        ([A100, H100], f" {H100}:1 ", "cuda:1"),
        ([A100, H100], "cuda:1", "cuda:1"),
        ([A100, H100], "cpu", "cpu"),
        ([], "cuda:3", "cuda:3"),
        ([], "cpu", "cpu"),
    ],
)
def test_devices_are_known_by_the_names_that_the_servers_list_shows(monkeypatch, names, asked, device):
    monkeypatch.setattr(request_values, "gpu_names", lambda: names)
    assert inference_values({"device": asked}) == training_values({"device": asked}) == {"device": device}


@pytest.mark.parametrize(
    ("names", "asked", "known"),
    [
        ([H100], A100, f"give cpu, cuda, cuda:0, {H100}"),
        ([H100], "cuda:1", f"give cpu, cuda, cuda:0, {H100}"),
        ([H100], "mps", f"give cpu, cuda, cuda:0, {H100}"),
        ([A100, A100], A100, f"give cpu, cuda, cuda:0, cuda:1, {A100}:0, {A100}:1"),
        ([], H100, "give cpu, cuda, cuda:NUMBER, mps"),
    ],
)
def test_devices_that_are_not_there_are_refused_with_those_that_are(monkeypatch, names, asked, known):
    monkeypatch.setattr(request_values, "gpu_names", lambda: names)
    with pytest.raises(RequestError) as error:
        inference_values({"device": asked})
    assert str(error.value) == f"device is {asked!r}; {known}"
