"""Slides of several files are known by all of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from common.cohort.download import stat_slide
from common.data import TargetGrid, build_patch_index
from common.inference.slide_run import slide_settings
from common.outputs.dicom import _uid
from common.slides import FieldOfView, PatchReader, SlideError, open_slide, pixel_fingerprint, slide_state
from common.slides.dicom_header import _series_uid as series_of_file
from common.slides.dicom_header import series_uid
from common.training.iterative import _slide_record
from tests.inference.children import ended
from tests.inference.test_resume import Stepwise, run
from tests.inference.test_rights import _as_an_ordinary_user
from tests.slides.test_scanner_formats import dicom, hamamatsu_vms, mirax

# A file of each format that is not the main one.
SEVERAL = {"MIRAX": (mirax, "a/Data0000.dat"), "DICOM": (dicom, "2.dcm"), "VMS": (hamamatsu_vms, "map.jpg")}


@pytest.fixture(params=SEVERAL)
def slide(request, tmp_path) -> tuple[Path, Path]:
    """A slide of several files, the main one and another."""
    make, other = SEVERAL[request.param]
    (tmp_path / "slide").mkdir()
    return make(tmp_path / "slide")[0], tmp_path / "slide" / other


def lengthen(path: Path) -> None:
    """Change a file so that what is read of it stays the same."""
    path.write_bytes(path.read_bytes() + b"\0\0")


def test_the_state_of_a_slide_is_that_of_all_its_files(slide):
    main, other = slide
    os.utime(other, ns=(0, 3 * 10**18))
    files = [path for path in main.parent.rglob("*") if path.is_file()]
    assert len(files) >= 3
    state = slide_state(main)
    assert (state.size, state.modified) == (sum(path.stat().st_size for path in files), 3 * 10**18)
    with open_slide(main) as opened:
        assert opened.files.state == state


def test_every_key_of_a_slide_changes_with_any_of_its_files(slide):
    main, other = slide
    entry = {"image": str(main)}

    def keys() -> list:
        with open_slide(main) as opened:
            return [
                pixel_fingerprint(entry),
                stat_slide(str(main)).identity,
                _slide_record(entry),
                slide_settings(opened)["slide"],
                _uid(opened),
            ]

    before = keys()
    assert keys() == before
    lengthen(other)
    assert [old for old, new in zip(before, keys(), strict=True) if old == new] == []


def test_a_slide_of_which_another_file_changed_is_not_resumed(slide, scheme, tmp_path):
    main, other = slide
    with pytest.raises(RuntimeError, match="out of memory"):
        run(str(main), tmp_path / "out", scheme, Stepwise(stop_after=2))
    os.utime(other, ns=(0, 3 * 10**18))
    _, result = run(str(main), tmp_path / "out", scheme, Stepwise())
    assert "slide.modified is" in result["error"]


def test_a_slide_of_which_another_file_changed_is_indexed_again(slide, scheme, tmp_path):
    main, other = slide
    entry = {"image": str(main), "unannotated": {"class": "stroma", "within": "slide"}}
    target = FieldOfView(0.5, 64)
    grid = TargetGrid(PatchReader([target]), target)

    def tables() -> int:
        build_patch_index([entry], scheme, grid, tmp_path / "cache")
        return len(list((tmp_path / "cache").iterdir()))

    assert [tables(), tables()] == [1, 1]
    os.utime(other, ns=(0, 3 * 10**18))
    assert tables() == 2


def test_a_slide_of_one_file_is_known_by_it_alone(tmp_path):
    path = tmp_path / "a.svs"
    path.write_bytes(b"slide")
    (tmp_path / "a").mkdir()
    for neighbour in ("a/Data0000.dat", "b.dcm", "a.geojson"):
        (tmp_path / neighbour).write_bytes(b"another file")
    os.utime(path, ns=(0, 7))
    assert pixel_fingerprint({"image": str(path)}) == [5, 7, None, None]
    with pytest.raises(FileNotFoundError):
        slide_state(tmp_path / "missing.mrxs")
    with pytest.raises(SlideError):
        open_slide(tmp_path / "missing.mrxs")


def test_files_that_only_lie_next_to_a_slide_are_not_the_slides(slide):
    main, _ = slide
    before = slide_state(main)
    with open_slide(main) as opened:
        for folder in {main.parent, *(path for path in main.parent.iterdir() if path.is_dir())}:
            (folder / f"{main.stem}.geojson").write_bytes(b"{}")
            (folder / "another.jpg").write_bytes(b"another slide's")
            (folder / ".DS_Store").write_bytes(b"a view of the folder")
        assert opened.change() is None
    assert slide_state(main) == before


def test_the_files_that_an_index_of_hamamatsu_names_are_the_slides(tmp_path):
    names = ["h.jpg", "h(0,1).jpg", "h é.map", "h_macro.jpg", "h.opt"]
    for name in (*names, "h.geojson"):
        (tmp_path / name).write_bytes(b"12345")
    index = (
        "[Virtual Microscope Specimen]\r\nNoLayers=1\r\nImageFile=h.jpg\r\nImageFile(0,1)=h(0,1).jpg\r\n"
        "ImageFile(1,0,1) = absent.jpg\r\nMapFile=h é.map\r\nMacroImage=h_macro.jpg\r\nOptimisationFile=h.opt\r\n"
        "AuthCode=h.geojson\r\nMacroImage=\r\n"
    ).encode()
    (tmp_path / "h.vms").write_bytes(index)
    assert slide_state(tmp_path / "h.vms").size == len(index) + 5 * len(names)


def test_the_series_of_a_dicom_file_is_that_of_its_own_elements_however_they_are_written(tmp_path):
    dicom(tmp_path)
    referenced = Dataset()
    referenced.SeriesInstanceUID = "1.2.3"
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        for undefined in (False, True):
            dataset = dcmread(tmp_path / "0.dcm")
            del dataset.PixelData
            dataset.ReferencedSeriesSequence = [referenced]
            dataset["ReferencedSeriesSequence"].is_undefined_length = undefined
            dataset.ReferencedSeriesSequence[0].is_undefined_length_sequence_item = undefined
            dataset.file_meta.TransferSyntaxUID = syntax
            path = tmp_path / f"{syntax}-{undefined}.dcm"
            dataset.save_as(path, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=True)
            assert series_uid(path) == dcmread(tmp_path / "1.dcm").SeriesInstanceUID


def test_a_dicom_header_that_is_cut_off_or_nested_without_end_names_no_series(tmp_path):
    dicom(tmp_path)
    content = (tmp_path / "0.dcm").read_bytes()
    place = content.index(b"\x20\x00\x0e\x00UI")
    path = tmp_path / "cut.dcm"
    for length in (0, 131, 132, 140, place, place + 4, place + 8):
        path.write_bytes(content[:length])
        assert series_uid(path) is None
    sequence, item = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(content[:132] + (sequence + item) * 100_000)
    assert series_uid(path) is None


def test_of_each_file_of_a_dicom_folder_only_the_first_bytes_are_read_and_once(tmp_path, monkeypatch):
    main = dicom(tmp_path)[0]
    read: list[int] = []
    opened = Path.open

    def counted(path: Path, *arguments, **given):
        file = opened(path, *arguments, **given)
        if path.suffix == ".dcm" and path != main and "buffering" in given:
            read.append(given["buffering"])
        return file

    monkeypatch.setattr(Path, "open", counted)
    series_of_file.cache_clear()
    slide_state(main)
    slide_state(main)
    assert read == [4096, 4096]
    (tmp_path / "1.dcm").write_bytes(b"no longer of the series")
    assert slide_state(main).size == sum((tmp_path / f"{n}.dcm").stat().st_size for n in (0, 2))


def _open_each(*slides: str) -> None:
    for slide in slides:
        try:
            open_slide(slide).close()
            print("opened")
        except SlideError:
            print("left out")


def test_a_slide_whose_folder_may_not_be_listed_or_entered_is_left_out_and_the_others_are_read(tmp_path):
    folders = {name: tmp_path / name for name in ("dicom", "mirax", "vms")}
    for folder in folders.values():
        folder.mkdir()
    slides = [dicom(folders["dicom"])[0], mirax(folders["mirax"])[0], hamamatsu_vms(folders["vms"])[0]]
    closed = [(folders["dicom"], 0o311), (folders["mirax"] / "a", 0o444), (folders["vms"], 0o311)]
    for folder, mode in closed:
        folder.chmod(mode)
    try:
        found = ended(tmp_path / "log", _open_each, *map(str, slides), before=_as_an_ordinary_user)
    finally:
        for folder, _ in closed:
            folder.chmod(0o755)
    assert found.code == 0, found.said
    # A VMS slide's files are found by their names.
    assert [line for line in found.said.splitlines() if line in ("opened", "left out")] == [
        "left out",
        "left out",
        "opened",
    ]
