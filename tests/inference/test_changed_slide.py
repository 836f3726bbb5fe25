"""A slide that becomes another file while it is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.outputs import writer
from common.slides.files import SlideFiles
from tests.inference.children import BLOCKS, small_slide
from tests.inference.test_resume import Stepwise, contents, run


class Disturbed(Stepwise):
    """Something happens at its third call."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__()
        self.happens = happens

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.calls == 2:
            self.happens()
        return super().forward(image)


@pytest.fixture
def slide(tmp_path) -> Path:
    return small_slide(tmp_path / "s.tif")


def without_summary(outputs: dict[str, bytes]) -> dict[str, bytes]:
    """All but what names the time of the slide's file."""
    return {name: content for name, content in outputs.items() if name != "summary.json"}


def with_same_time(slide: Path, content: bytes) -> None:
    """Replace a slide by a file of as many bytes and the same time of change, as copying tools do."""
    before = slide.stat()
    other = slide.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(slide)


def cut_off(slide: Path) -> None:
    with slide.open("r+b") as file:
        file.truncate(slide.stat().st_size // 2)


def other_end(slide: Path) -> None:
    content = slide.read_bytes()
    with_same_time(slide, content[:-1] + bytes([content[-1] ^ 1]))


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "grows": (lambda slide: slide.write_bytes(slide.read_bytes() + b"\0"), r"\d+ bytes then, \d+ now"),
    "cut off": (cut_off, r"\d+ bytes then, \d+ now"),
    "touched": (lambda slide: os.utime(slide, ns=(0, 10**18)), "written to or replaced"),
    "replaced": (other_end, "replaced by another file"),
    "removed": (lambda slide: slide.unlink(), "it was removed"),
}


@pytest.mark.parametrize(
    "change",
    ["cut off", "replaced", *(pytest.param(name, marks=pytest.mark.all) for name in ("grows", "touched", "removed"))],
)
def test_a_slide_that_changes_while_it_is_read_leaves_nothing(slide, whole, scheme, tmp_path, change):
    happens, said = CHANGES[change]
    original = slide.read_bytes()
    inferer, result = run(str(slide), tmp_path / "out", scheme, Disturbed(lambda: happens(slide)))
    assert result["error"].startswith(f"{slide}: ")
    assert "while the slide was read" in result["error"]
    assert result["error"].endswith("Copy it to where nothing else writes to it, and run the same command again")
    with pytest.raises(SystemExit, match=said):
        inferer.finish()
    assert list((tmp_path / "out" / "s").iterdir()) == []

    # The same command then segments what is there now.
    slide.write_bytes(original)
    _, result = run(str(slide), tmp_path / "out", scheme, again := Stepwise())
    assert again.calls == BLOCKS
    assert without_summary(contents(tmp_path / "out" / "s")) == without_summary(whole.outputs)


def test_a_slide_that_changes_while_outputs_are_written_leaves_none(slide, scheme, tmp_path, monkeypatch):
    def write_then_touch(*arguments: object) -> None:
        os.utime(slide, ns=(0, 10**18))

    monkeypatch.setattr(writer, "write_overlay", write_then_touch)
    _, result = run(str(slide), tmp_path / "out", scheme, Stepwise())
    assert "while the slide was read" in result["error"]
    assert list((tmp_path / "out" / "s").iterdir()) == []


def test_earlier_outputs_outlive_a_slide_that_changes_while_they_are_to_be_replaced(slide, scheme, tmp_path):
    run(str(slide), tmp_path / "out", scheme, Stepwise())
    before = contents(tmp_path / "out" / "s")
    _, result = run(str(slide), tmp_path / "out", scheme, Disturbed(lambda: os.utime(slide, ns=(0, 0))), overwrite=True)
    assert "while the slide was read" in result["error"]
    assert contents(tmp_path / "out" / "s") == before


def test_damage_that_was_there_before_is_no_change(slide, scheme, tmp_path):
    content = slide.read_bytes()
    slide.write_bytes(content[: len(content) // 2])
    _, result = run(str(slide), tmp_path / "out", scheme, Stepwise())
    assert "error" in result
    assert "while the slide was read" not in result["error"]


def dicom(path: Path, series: str, more: bytes = b"") -> Path:
    """The part of a DICOM file's header that names its series."""
    value = series.encode()
    path.write_bytes(bytes(128) + b"DICM\x20\x00\x0e\x00UI" + len(value).to_bytes(2, "little") + value + more)
    return path


def test_all_files_of_a_slide_are_watched_and_no_others(tmp_path):
    mirax = tmp_path / "m.mrxs"
    mirax.write_bytes(b"index")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "Data0000.dat").write_bytes(b"tiles")
    files = SlideFiles(mirax)
    (tmp_path / "m" / "notes.txt").write_bytes(b"came later")
    assert files.change() is None
    (tmp_path / "m" / "Data0000.dat").write_bytes(b"more tiles")
    change = "Data0000.dat was changed while the slide was read: 5 bytes then, 10 now"
    assert files.change() == change

    first, second = dicom(tmp_path / "1.dcm", "1.2.3"), dicom(tmp_path / "2.dcm", "1.2.3")
    neighbour = dicom(tmp_path / "3.dcm", "1.2.4")
    files = SlideFiles(first)
    dicom(neighbour, "1.2.4", b"another slide is still copied")
    assert files.change() is None
    second.unlink()
    assert files.change() == "2.dcm was removed while the slide was read"

    index, picture = tmp_path / "h.vms", tmp_path / "h.jpg"
    index.write_bytes(b"[Virtual Microscope Specimen]\r\nImageFile=h.jpg\r\n")
    picture.write_bytes(b"jpeg")
    files = SlideFiles(index)
    os.utime(picture, ns=(0, 0))
    assert files.change() == "h.jpg was written to or replaced while the slide was read"
