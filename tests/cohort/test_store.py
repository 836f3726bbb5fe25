"""Outputs arrive whole, and what vouches for them last."""

from __future__ import annotations

import json
import re
from pathlib import Path

import fsspec
import pytest

from common.cohort import store as stores
from common.cohort.store import OutputsGoneError, hashes, open_store

OUTPUTS = ("prediction.tif", "probabilities.zarr", "summary.json")


def made(store, text: str = "one") -> dict:
    """A slide's outputs in the working folder, and their record."""
    folder = store.working / "s"
    for path in ("prediction.tif", "probabilities.zarr/c/0/0", "probabilities.zarr/zarr.json", "summary.json"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"{path} {text}")
    (folder / "notes.txt").write_text("of the user")
    rest = {"slide": {}, "entry": {}, "seconds": {}, "predicted_mm2": 1.0, "worker": "w", "finished": "now"}
    return {"files": hashes(folder, OUTPUTS), "settings": store.keep_settings({"a": 1}), **rest}


@pytest.fixture(params=["folder", "s3", "renaming"])
def store(request, tmp_path):
    if request.param == "folder":
        return open_store(tmp_path / "out", tmp_path / "scratch")
    if request.param == "s3":
        return open_store(f"{request.getfixturevalue('bucket')}/out", tmp_path / "scratch")
    # A file system on which what is being written can be seen: as sftp's.
    return open_store(f"local://{tmp_path}/out", tmp_path / "scratch")


def test_a_finished_slide_is_on_record_as_long_as_its_files_are_there(store):
    assert store.record("s") is None
    record = made(store)
    store.finish("s", record)
    assert store.record("s") == record
    assert set(record["files"]) == set(store.sizes("s")) - {"notes.txt"}
    assert record["files"]["prediction.tif"]["bytes"] == len("prediction.tif one")
    assert store.settings(record["settings"]) == {"a": 1}
    store.forget("s/prediction.tif")
    assert store.record("s") is None


def test_only_what_is_made_anew_replaces_what_was_there(tmp_path, bucket):
    """Not other outputs, nor others' files, such as those of a MIRAX slide of the same name."""
    store = open_store(f"{bucket}/out", tmp_path / "scratch")
    store.finish("s", made(store))
    files = fsspec.filesystem("s3", use_listings_cache=False)
    for path in ("Slidedat.ini", "probabilities.zarr/c/9/9"):
        files.pipe_file(f"{bucket}/out/s/{path}", b"x")
    for path in ("probabilities.zarr/c/0/1", "summary.json"):
        (store.working / "s" / path).parent.mkdir(parents=True, exist_ok=True)
        (store.working / "s" / path).write_text("{}")
    store.finish("s", {"files": hashes(store.working / "s", ["probabilities.zarr", "summary.json"])})
    assert store.sizes("s") == {
        "Slidedat.ini": 1,
        "prediction.tif": len("prediction.tif one"),
        "probabilities.zarr/c/0/1": 2,
        "summary.json": 2,
    }


def test_damaged_outputs_and_what_vouched_for_them_go_before_a_slide_is_worked_on(tmp_path):
    store = open_store(tmp_path / "out", tmp_path / "scratch")
    store.finish("s", made(store))
    (store.working / "s" / "prediction.tif").write_text("cut")
    (store.working / "s" / "probabilities.zarr" / "c" / "0" / "0").unlink()
    store.begin("s")
    assert set(store.sizes("s")) == {"summary.json", "notes.txt"}
    assert store.read(".cohort/slides/s.json") is None


def test_outputs_that_are_not_there_are_not_vouched_for(tmp_path):
    store = open_store(tmp_path / "out", tmp_path / "scratch")
    made(store)
    (store.working / "s" / "prediction.tif").unlink()
    with pytest.raises(OutputsGoneError, match=r"prediction.tif went while it was worked on"):
        hashes(store.working / "s", OUTPUTS)


def test_uploads_go_in_an_order_in_which_nothing_half_there_looks_whole(tmp_path, bucket, s3_server):
    store = open_store(f"{bucket}/out", tmp_path / "scratch")
    paths = ["summary.json", "tissue.tif", "a.zarr/zarr.json", "a.zarr/0/zarr.json", "a.zarr/zz/0"]
    for path in paths:
        (store.working / "s" / path).parent.mkdir(parents=True, exist_ok=True)
        (store.working / "s" / path).write_text(path)
    before = len(s3_server.served)
    store.finish("s", {"files": hashes(store.working / "s", ["summary.json", "tissue.tif", "a.zarr"])})
    put = [path.partition("/out/")[2] for method, path in s3_server.served[before:] if method == "PUT"]
    assert set(put[:2]) == {"s/tissue.tif", "s/a.zarr/zz/0"}
    assert put[2:] == ["s/a.zarr/0/zarr.json", "s/a.zarr/zarr.json", "s/summary.json", ".cohort/slides/s.json"]


@pytest.mark.all
def test_an_upload_that_fails_half_way_leaves_nothing_that_vouches(tmp_path, bucket, s3_server, monkeypatch):
    monkeypatch.setattr(stores, "patiently", lambda call, what: call())
    store = open_store(f"{bucket}/out", tmp_path / "scratch")
    store.finish("s", made(store))
    again = made(store, "two")
    with (
        s3_server.failing(lambda method, path: method == "PUT" and "zarr.json" in path),
        pytest.raises(OSError, match="Internal Server Error"),
    ):
        store.finish("s", again)
    there = fsspec.filesystem("s3", use_listings_cache=False).find(f"{bucket}/out")
    assert store.record("s") is None
    assert not [path for path in there if path.endswith(("summary.json", "slides/s.json"))]
    # What was made is still here, and arrives when the server is well.
    store.finish("s", again)
    assert store.record("s") == again
    assert (
        fsspec.filesystem("s3", use_listings_cache=False).cat_file(f"{bucket}/out/s/summary.json")
        == b"summary.json two"
    )
    assert not (store.working / "s").exists()


def test_where_files_grow_under_their_names_they_are_renamed_when_whole(tmp_path, monkeypatch):
    store = open_store(f"local://{tmp_path}/out", tmp_path / "scratch")
    seen: list[list[str]] = []
    put_file = type(store._files).put_file

    def watched(self, local, target, **options):
        put_file(self, local, target, **options)
        seen.append(sorted(path.name for path in Path(tmp_path / "out" / "s").iterdir()))

    record = made(store)
    monkeypatch.setattr(type(store._files), "put_file", watched)
    store.deliver("s", {"prediction.tif": record["files"]["prediction.tif"]})
    assert len(seen) == 1
    assert re.fullmatch(r"\.partial-\w{8}-prediction\.tif", *seen[0])
    assert store.sizes("s") == {"prediction.tif": len("prediction.tif one")}


def test_parts_are_kept_until_they_are_dropped(store, tmp_path):
    part = tmp_path / "p.zip"
    part.write_bytes(b"part")
    store.put_part("s/0-of-2.zip", part)
    assert store.has_part("s/0-of-2.zip")
    assert not store.has_part("s/1-of-2.zip")
    with store.part("s/0-of-2.zip") as local:
        assert local.read_bytes() == b"part"
    store.drop_parts("s")
    assert not store.has_part("s/0-of-2.zip")


def test_a_web_server_is_no_place_for_outputs(tmp_path):
    with pytest.raises(ValueError, match=r"https://host/out: outputs cannot be written there"):
        open_store("https://host/out", tmp_path)


def test_a_record_that_is_damaged_does_not_count(store):
    store.finish("s", made(store))
    for content in (b"{", b"[]", json.dumps({"files": 3}).encode()):
        store.write(".cohort/slides/s.json", content)
        assert store.record("s") is None
