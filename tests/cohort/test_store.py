"""Outputs arrive whole, and their record last."""

from __future__ import annotations

import json
import re
from pathlib import Path

import fsspec
import pytest

from common.cohort import store as stores
from common.cohort.store import OutputsMissingError, file_hashes, open_store

OUTPUTS = ("prediction.tif", "probabilities.zarr", "summary.json")


def made(store, text: str = "one") -> dict:
    """Make a slide's outputs in the working folder. Return their record."""
    folder = store.working / "s"
    for path in ("prediction.tif", "probabilities.zarr/c/0/0", "probabilities.zarr/zarr.json", "summary.json"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"{path} {text}")
    (folder / "notes.txt").write_text("of the user")
    rest = {"slide": {}, "entry": {}, "seconds": {}, "predicted_mm2": 1.0, "worker": "w", "finished": "now"}
    return {"files": file_hashes(folder, OUTPUTS), "settings": store.save_settings({"a": 1}), **rest}


@pytest.fixture(params=["folder", "s3", "renaming"])
def store(request, tmp_path):
    if request.param == "folder":
        return open_store(tmp_path / "out", tmp_path / "scratch")
    if request.param == "s3":
        return open_store(f"{request.getfixturevalue('bucket')}/out", tmp_path / "scratch")
    # A file system that shows files while they are written, like sftp.
    return open_store(f"local://{tmp_path}/out", tmp_path / "scratch")


def test_a_finished_slide_has_a_record_as_long_as_its_files_are_there(store):
    assert store.record("s") is None
    record = made(store)
    store.commit("s", record)
    assert store.record("s") == record
    assert set(record["files"]) == set(store.file_sizes("s")) - {"notes.txt"}
    assert record["files"]["prediction.tif"]["bytes"] == len("prediction.tif one")
    assert store.settings(record["settings"]) == {"a": 1}
    store.delete("s/prediction.tif")
    assert store.record("s") is None


def test_only_outputs_that_are_made_again_replace_earlier_ones(tmp_path, bucket):
    """Other outputs stay, and so do users' files, such as those of a MIRAX slide of the same name."""
    store = open_store(f"{bucket}/out", tmp_path / "scratch")
    store.commit("s", made(store))
    files = fsspec.filesystem("s3", use_listings_cache=False)
    for path in ("Slidedat.ini", "probabilities.zarr/c/9/9"):
        files.pipe_file(f"{bucket}/out/s/{path}", b"x")
    for path in ("probabilities.zarr/c/0/1", "summary.json"):
        (store.working / "s" / path).parent.mkdir(parents=True, exist_ok=True)
        (store.working / "s" / path).write_text("{}")
    store.commit("s", {"files": file_hashes(store.working / "s", ["probabilities.zarr", "summary.json"])})
    assert store.file_sizes("s") == {
        "Slidedat.ini": 1,
        "prediction.tif": len("prediction.tif one"),
        "probabilities.zarr/c/0/1": 2,
        "summary.json": 2,
    }


def test_damaged_outputs_and_their_record_go_before_a_slide_is_segmented(tmp_path):
    store = open_store(tmp_path / "out", tmp_path / "scratch")
    store.commit("s", made(store))
    (store.working / "s" / "prediction.tif").write_text("cut")
    (store.working / "s" / "probabilities.zarr" / "c" / "0" / "0").unlink()
    store.start("s")
    assert set(store.file_sizes("s")) == {"summary.json", "notes.txt"}
    assert store.read(".cohort/slides/s.json") is None


def test_missing_outputs_are_not_recorded(tmp_path):
    store = open_store(tmp_path / "out", tmp_path / "scratch")
    made(store)
    (store.working / "s" / "prediction.tif").unlink()
    with pytest.raises(OutputsMissingError, match=r"prediction.tif vanished while the slide was processed"):
        file_hashes(store.working / "s", OUTPUTS)


def test_an_interrupted_upload_never_looks_complete(tmp_path, bucket, s3_server):
    store = open_store(f"{bucket}/out", tmp_path / "scratch")
    paths = ["summary.json", "tissue.tif", "a.zarr/zarr.json", "a.zarr/0/zarr.json", "a.zarr/zz/0"]
    for path in paths:
        (store.working / "s" / path).parent.mkdir(parents=True, exist_ok=True)
        (store.working / "s" / path).write_text(path)
    before = len(s3_server.served)
    store.commit("s", {"files": file_hashes(store.working / "s", ["summary.json", "tissue.tif", "a.zarr"])})
    put = [path.partition("/out/")[2] for method, path in s3_server.served[before:] if method == "PUT"]
    assert set(put[:2]) == {"s/tissue.tif", "s/a.zarr/zz/0"}
    assert put[2:] == ["s/a.zarr/0/zarr.json", "s/a.zarr/zarr.json", "s/summary.json", ".cohort/slides/s.json"]


@pytest.mark.all
def test_an_upload_that_fails_half_way_leaves_no_record_and_no_summary(tmp_path, bucket, s3_server, monkeypatch):
    monkeypatch.setattr(stores, "retry", lambda call, what: call())
    store = open_store(f"{bucket}/out", tmp_path / "scratch")
    store.commit("s", made(store))
    again = made(store, "two")
    with (
        s3_server.failing(lambda method, path: method == "PUT" and "zarr.json" in path),
        pytest.raises(OSError, match="Internal Server Error"),
    ):
        store.commit("s", again)
    there = fsspec.filesystem("s3", use_listings_cache=False).find(f"{bucket}/out")
    assert store.record("s") is None
    assert not [path for path in there if path.endswith(("summary.json", "slides/s.json"))]
    # The outputs are still here, and arrive once the server works.
    store.commit("s", again)
    assert store.record("s") == again
    assert (
        fsspec.filesystem("s3", use_listings_cache=False).cat_file(f"{bucket}/out/s/summary.json")
        == b"summary.json two"
    )
    assert not (store.working / "s").exists()


def test_where_unfinished_files_are_visible_they_are_renamed_once_whole(tmp_path, monkeypatch):
    store = open_store(f"local://{tmp_path}/out", tmp_path / "scratch")
    seen: list[list[str]] = []
    put_file = type(store._files).put_file

    def watched(self, local, target, **options):
        put_file(self, local, target, **options)
        seen.append(sorted(path.name for path in Path(tmp_path / "out" / "s").iterdir()))

    record = made(store)
    monkeypatch.setattr(type(store._files), "put_file", watched)
    store.upload("s", {"prediction.tif": record["files"]["prediction.tif"]})
    assert len(seen) == 1
    assert re.fullmatch(r"\.partial-\w{8}-prediction\.tif", *seen[0])
    assert store.file_sizes("s") == {"prediction.tif": len("prediction.tif one")}


def test_parts_are_kept_until_they_are_deleted(store, tmp_path):
    part = tmp_path / "p.zip"
    part.write_bytes(b"part")
    store.save_part("s/0-of-2.zip", part)
    assert store.has_part("s/0-of-2.zip")
    assert not store.has_part("s/1-of-2.zip")
    with store.open_part("s/0-of-2.zip") as local:
        assert local.read_bytes() == b"part"
    store.delete_parts("s")
    assert not store.has_part("s/0-of-2.zip")


def test_a_web_server_is_refused_for_outputs(tmp_path):
    with pytest.raises(ValueError, match=r"https://host/out: outputs cannot be written there"):
        open_store("https://host/out", tmp_path)


def test_a_damaged_record_does_not_count(store):
    store.commit("s", made(store))
    for content in (b"{", b"[]", json.dumps({"files": 3}).encode()):
        store.write(".cohort/slides/s.json", content)
        assert store.record("s") is None
