"""A manifest names the slides of a cohort."""

from __future__ import annotations

import json

import fsspec
import pytest

from common.cohort import dicom as remote_dicom
from common.cohort.locations import name_of, redact, redact_url, resolve_location
from common.cohort.manifest import read_manifest
from tests.slides.test_scanner_formats import dicom


def test_lists_of_every_kind_name_the_same_slides(tmp_path):
    for name in ("a.svs", "b.ome.tif"):
        (tmp_path / name).touch()
    datalist = {"testing": [{"image": "a.svs", "mpp": 0.25}, {"image": str(tmp_path / "b.ome.tif")}]}
    (tmp_path / "slides.json").write_text(json.dumps(datalist))
    (tmp_path / "slides.csv").write_text("image,mpp,stain\na.svs,0.25,\nb.ome.tif,,HER2\n")
    (tmp_path / "slides.txt").write_text("a.svs\n\nb.ome.tif\n")
    found = {
        given: read_manifest(str(tmp_path / given))
        for given in ("slides.json", "slides.csv", "slides.txt", "[ab].*[sf]")
    }
    for slides in found.values():
        assert [slide.name for slide in slides] == ["a", "b"]
        assert [slide.location for slide in slides] == [str(tmp_path / "a.svs"), str(tmp_path / "b.ome.tif")]
    assert [slide.entry for slide in found["slides.csv"]] == [{"mpp": 0.25}, {"stain": "HER2"}]
    assert [slide.entry for slide in found["slides.json"]] == [{"mpp": 0.25}, {}]
    assert read_manifest(str(tmp_path / "slides.csv"), mpp=0.5)[1].entry == {"mpp": 0.5, "stain": "HER2"}
    named = tmp_path / "named.csv"
    named.write_text("image,case\na.svs,c1\nb.ome.tif,c2\n")
    assert [slide.name for slide in read_manifest(str(named), name_by="case")] == ["c1", "c2"]


def test_regions_of_one_slide_are_one_slide(tmp_path):
    (tmp_path / "r.csv").write_text('image,regions\na.svs,"[[0, 0, 5, 5]]"\na.svs,"[[9, 0, 5, 5]]"\n')
    (slide,) = read_manifest(str(tmp_path / "r.csv"))
    assert slide.entry["regions"] == [[0, 0, 5, 5], [9, 0, 5, 5]]


def test_remote_slides_are_named_by_url_relative_to_their_list_or_by_glob(bucket):
    files = fsspec.filesystem("s3", use_listings_cache=False)
    for key in ("slides/a.svs", "slides/deep/b.svs"):
        files.pipe_file(f"{bucket}/{key}", b"x")
    files.pipe_file(f"{bucket}/slides/list.csv", f"image\na.svs\n{bucket}/slides/deep/b.svs\n".encode())
    wanted = [f"{bucket}/slides/a.svs", f"{bucket}/slides/deep/b.svs"]
    for given in (f"{bucket}/slides/list.csv", f"{bucket}/slides/**/*.svs"):
        assert [slide.location for slide in read_manifest(given)] == wanted


def test_dicom_instances_in_a_store_are_one_slide_as_on_a_disk(bucket, tmp_path, monkeypatch):
    files = fsspec.filesystem("s3", use_listings_cache=False)
    for name in ("one", "two", "two"):
        folder = tmp_path / f"local-{name}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        dicom(folder)
        for path in folder.glob("*.dcm"):
            files.put_file(str(path), f"{bucket}/{name}/{folder.name}-{path.name}")

    def found(given):
        return [(slide.name, slide.location.removeprefix(f"{bucket}/")) for slide in read_manifest(given)]

    both = [(f"local-two-{n}-0", f"two/local-two-{n}-0.dcm") for n in (1, 2)]
    assert found(f"{bucket}/one/*.dcm") == [("local-one-0-0", "one/local-one-0-0.dcm")]
    assert found(f"{bucket}/two/*.dcm") == both
    assert found(f"{bucket}/**/*.dcm") == [("local-one-0-0", "one/local-one-0-0.dcm"), *both]
    # A folder names its only slide, with the folder's name, or all slides in it.
    assert found(f"{bucket}/one") == found(f"{bucket}/one/") == [("one", "one/local-one-0-0.dcm")]
    assert found(f"{bucket}/two") == both
    files.pipe_file(f"{bucket}/list.csv", b"image\none\n")
    assert found(f"{bucket}/list.csv") == [("one", "one/local-one-0-0.dcm")]
    files.pipe_file(f"{bucket}/list.csv", b"image\ntwo\n")
    with pytest.raises(ValueError, match="/two: 2 DICOM slides lie in it. Name a file of one"):
        found(f"{bucket}/list.csv")
    monkeypatch.setattr(remote_dicom, "find_spec", lambda name: None)
    assert len(read_manifest(f"{bucket}/one/local-one-0-0.dcm")) == 1
    with pytest.raises(ValueError, match=r"cannot be told apart without pydicom.*name one file of each slide"):
        found(f"{bucket}/one/*.dcm")


def test_urls_that_differ_in_the_query_are_different_slides():
    urls = [f"https://host/get?id={number}" for number in (1, 2)]
    assert remote_dicom.first_instances([*urls, urls[0]]) == urls


def test_no_secret_of_a_url_is_shown():
    signed = "https://host/path/my%20slide.svs?X-Amz-Signature=abc"
    assert redact_url(signed) == "https://host/path/my%20slide.svs"
    assert name_of(signed) == "my slide.svs"
    assert name_of("s3://bucket/50%20?#1.svs") == "50%20?#1.svs"
    assert redact_url("HTTPS://host/a.svs?sig=abc") == "HTTPS://host/a.svs"
    error = "403, message='Forbidden', url='https://me@host/a.svs?X-Amz-Signature=abc&x=1' (s3://b/c?d.svs)"
    assert redact(error) == "403, message='Forbidden', url='https://host/a.svs' (s3://b/c?d.svs)"
    with pytest.raises(ValueError, match="a chain of URLs"):
        resolve_location("simplecache::https://host/a.svs?sig=abc")
    with pytest.raises(ValueError, match="a password in a URL") as failure:
        resolve_location("s3://key:verysecret@bucket/a.svs")
    assert "verysecret" not in str(failure.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image\n", "s.csv: lists no slides"),
        ("slide\na.svs\n", 's.csv: line 2 has no slide in a column "image"'),
        ("image,mpp\na.svs,half\n", "s.csv: line 2: mpp: 'half' is not a number"),
        ("image\nx/a.svs\ny/a.tif\n", "two slides are called 'a': .*x/a.svs and .*y/a.tif"),
        ("image\nx/cohort.csv.svs\n", "'cohort.csv' cannot be the name of its output folder"),
        ("image\nx/A.svs\ny/a.svs\n", "'A' and 'a' would share the folder 'a': .*x/A.svs and .*y/a.svs"),
    ],
)
def test_an_error_in_a_list_is_located(tmp_path, content, message):
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_manifest(str(tmp_path / "s.csv"))


def test_names_of_a_column_stay_in_the_outputs(tmp_path):
    (tmp_path / "s.csv").write_text("image,case\na.svs,../../home\nb.svs,S21/1234\n.svs,c1\n")
    names = [slide.name for slide in read_manifest(str(tmp_path / "s.csv"), name_by="case")]
    assert names == ["___.._home", "S21_1234", "c1"]
    assert [slide.name for slide in read_manifest(str(tmp_path / "s.csv"))] == ["a", "b", "_svs"]


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent.json: no such file"):
        read_manifest(str(tmp_path / "absent.json"))
