"""Outputs reach their places together, whatever goes wrong on the way."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from common.inference.folder import FolderInUseError, SlideFolder
from common.outputs import writer
from tests.inference.children import ended, segment, small_slide
from tests.inference.test_resume import Stepwise, contents, run

_EARLIER = {"prediction.tif": "earlier", "overlay.png": "earlier", "summary.json": "earlier"}
_NEW = {"prediction.geojson": "new", "confidence.png": "new", "summary.json": "new"}


@pytest.fixture
def slide(tmp_path) -> Path:
    return small_slide(tmp_path / "s.tif")


def touch(slide: Path) -> None:
    os.utime(slide, ns=(0, 10**18))


def test_an_output_that_is_added_while_the_slide_changes_does_not_stay(slide, scheme, tmp_path, monkeypatch):
    run(str(slide), tmp_path / "out", scheme, Stepwise())
    (tmp_path / "out" / "s" / "overlay.png").unlink()
    before = contents(tmp_path / "out" / "s")
    write = writer.write_overlay

    def write_then_touch(*arguments: object) -> None:
        write(*arguments)
        touch(slide)

    monkeypatch.setattr(writer, "write_overlay", write_then_touch)
    _, result = run(str(slide), tmp_path / "out", scheme, Stepwise())
    assert "while the slide was read" in result["error"]
    assert contents(tmp_path / "out" / "s") == before


def test_earlier_outputs_outlive_a_disk_that_is_full_when_they_are_to_be_replaced(slide, tmp_path):
    assert ended(tmp_path / "log", segment, slide, tmp_path / "out").code == 0
    before = contents(tmp_path / "out" / "s")
    result = ended(tmp_path / "log", _overwrite, slide, tmp_path / "out", before=_fill_disk_at_the_overlay)
    assert result.code == 1
    assert "the disk is full" in result.said
    after = {name: part for name, part in contents(tmp_path / "out" / "s").items() if ".unfinished" not in name}
    assert after == before
    assert ended(tmp_path / "log", _overwrite, slide, tmp_path / "out").code == 0
    assert contents(tmp_path / "out" / "s") == before


def _overwrite(slide: Path, out: Path) -> None:
    segment(slide, out, overwrite=True)


def _fill_disk_at_the_overlay() -> None:
    def fail(path: Path, *arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    writer.write_overlay = fail


def test_a_summary_describes_kept_and_added_outputs(slide, scheme, tmp_path):
    run(str(slide), tmp_path / "out", scheme, Stepwise())
    expected = contents(tmp_path / "out" / "s")
    (tmp_path / "out" / "s" / "overlay.png").unlink()
    run(str(slide), tmp_path / "out", scheme, Stepwise())
    assert contents(tmp_path / "out" / "s") == expected


def write(folder: SlideFolder, texts: dict[str, str], replace: bool) -> None:
    with folder.lock(), folder.written(replace=replace) as staged:
        for name, text in texts.items():
            (staged / name).write_text(text)


def texts_in(folder: SlideFolder) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.path.iterdir() if not path.name.startswith(".")}


class Killed(BaseException):
    """Nothing is renamed or removed any more."""


def die_after(steps: int, patch: pytest.MonkeyPatch) -> None:
    """Let so many files and folders be renamed or removed, and no more."""
    left = iter(range(steps))

    def allowed(function: Callable[..., None]) -> Callable[..., None]:
        def call(path: Path, *others: object, **options: object) -> None:
            if Path(path).name != ".lock":
                if os.path.lexists(path) and next(left, None) is None:
                    raise Killed
                function(path, *others, **options)

        return call

    for name in ("replace", "rename", "unlink", "rmdir"):
        patch.setattr(os, name, allowed(getattr(os, name)))


@pytest.mark.parametrize(("replace", "steps"), [(True, 9), (False, 5)])
def test_a_run_that_is_killed_while_it_moves_outputs_leaves_the_rest_to_the_next(tmp_path, monkeypatch, replace, steps):
    expected = _NEW if replace else {**_EARLIER, **_NEW}
    for step in range(steps + 1):
        folder = SlideFolder(tmp_path / str(step))
        write(folder, _EARLIER, replace=True)
        with monkeypatch.context() as patch, nullcontext() if step == steps else pytest.raises(Killed):
            die_after(step, patch)
            write(folder, _NEW, replace)
        found = texts_in(folder)
        # A summary certifies all outputs next to it.
        if found.get("summary.json") == "new":
            assert found == expected
        elif "summary.json" in found:
            assert _EARLIER.items() <= found.items()
        with folder.lock():
            # Until everything was whole, nothing was touched.
            assert texts_in(folder) == (expected if step else _EARLIER)
            assert {path.name for path in folder.path.iterdir()} == {".lock", *texts_in(folder)}


def test_an_interruption_while_outputs_are_moved_waits_until_they_are(tmp_path, monkeypatch):
    folder = SlideFolder(tmp_path / "s")
    write(folder, _EARLIER, replace=True)
    move, interrupted = os.replace, iter([False, False, True])

    def interrupt(*paths: Path) -> None:
        if next(interrupted, False):
            raise KeyboardInterrupt
        move(*paths)

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(folder, _NEW, replace=True)
    assert texts_in(folder) == _NEW


def test_a_lock_that_its_holder_removes_while_it_is_taken_does_not_count(tmp_path, monkeypatch):
    """One process opens the lock's file, the holder removes the file and leaves, and a third makes another."""
    path = tmp_path / "s" / ".lock"
    path.parent.mkdir()
    path.touch()
    flock, first = fcntl.flock, iter([True])

    def after_its_removal(file: int, operation: int) -> None:
        if next(first, False):
            path.unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", after_its_removal)
    with SlideFolder(path.parent).lock():
        assert next(first, None) is None
        assert path.exists()
        with pytest.raises(FolderInUseError), SlideFolder(path.parent).lock():
            pass
