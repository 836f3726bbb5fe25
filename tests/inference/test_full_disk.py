"""A disk that is full, or a file that would be too large: one line names the place, and the same command resumes."""

from __future__ import annotations

import errno
import functools
import os
import resource
import subprocess
from pathlib import Path

import pytest
import torch

from common.files import DiskFullError, atomic_write, full_disk_named
from tests.inference.children import ended, last_line, segment
from tests.inference.test_resume import contents

_PAGE = resource.getpagesize()
_FINAL = ("prediction.tif", "prediction.geojson", "overlay.png", "entropy.tif", "probabilities.zarr", "summary.json")


@pytest.fixture
def disk(tmp_path):
    """Mount a file system of so many bytes; a later call changes its size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def sized(size: int) -> Path:
        remount = ["-o", f"remount,size={size}"] if os.path.ismount(folder) else ["-o", f"size={size}", "-t", "tmpfs"]
        result = subprocess.run(["mount", *remount, "none", str(folder)], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"no file system may be mounted here: {result.stderr.strip()}")
        return folder

    yield sized
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def check_nothing_half_written(out: Path) -> None:
    assert not [path for path in out.rglob("*") if ".partial" in path.name or path.name == ".lock"]
    assert not [name for name in _FINAL if (out / "s" / name).exists()]


# Too small for the progress log, for all blocks, and for all outputs.
@pytest.mark.parametrize(
    ("share", "more"), [pytest.param(0, 2, marks=pytest.mark.all), pytest.param(0.6, 0, marks=pytest.mark.all), (1, 3)]
)
def test_a_full_disk_is_named_and_the_same_command_resumes_once_there_is_room(whole, disk, tmp_path, share, more):
    # A file takes up whole pages.
    pages = sum(-(-size // _PAGE) for size in whole.maps)
    out = disk((round(share * pages) + more) * _PAGE)
    result = ended(tmp_path / "log", segment, whole.slide, out)
    assert result.code == 1, result.said
    line = last_line(result.said)
    assert line.startswith(f"error: {out}/s")
    assert line.endswith(": the disk is full. Free some space, or choose another --output; the same command resumes")
    assert "Traceback" not in result.said
    check_nothing_half_written(out)
    disk(20 << 20)
    result = ended(tmp_path / "log", segment, whole.slide, out)
    assert result.code == 0, result.said
    assert contents(out / "s") == whole.outputs


def _allow_files_of(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


# Too small for the maps, and for the outputs. The log is a file, too.
@pytest.mark.parametrize("size", [1500, 6000])
def test_a_file_that_would_be_too_large_is_named_and_the_same_command_resumes(whole, tmp_path, size):
    out = tmp_path / "out"
    result = ended(tmp_path / "log", segment, whole.slide, out, before=functools.partial(_allow_files_of, size))
    assert result.code == 1, result.said
    line = last_line(result.said)
    assert line.startswith(f"error: {out}/s")
    assert ": the file would be larger than the file system, or ulimit -f, allows. Choose another --output" in line
    check_nothing_half_written(out)
    assert ended(tmp_path / "log", segment, whole.slide, out).code == 0
    assert contents(out / "s") == whole.outputs


def test_errors_of_a_full_disk_name_what_was_written():
    with (
        pytest.raises(DiskFullError, match="output") as failure,
        full_disk_named("output"),
    ):
        Path("/dev/full").write_text("x")
    assert failure.value.errno == errno.ENOSPC
    with pytest.raises(PermissionError), full_disk_named("output"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_an_error_is_not_hidden_by_a_folder_that_is_gone(tmp_path):
    def lose(folder: Path) -> None:
        folder.rmdir()
        raise RuntimeError("the cause")

    with pytest.raises(RuntimeError, match="the cause"), atomic_write(tmp_path / "mount" / "model.pt") as partial:
        lose(partial.parent)


def test_weights_that_do_not_fit_on_a_disk_are_a_full_disk(disk):
    """torch.save says no more than that a write failed."""
    folder = disk(256 << 10)
    with pytest.raises(DiskFullError, match=r"model\.pt") as failure, atomic_write(folder / "model.pt") as partial:
        torch.save({"weights": torch.zeros(100_000)}, partial)
    assert failure.value.errno == errno.ENOSPC
    assert list(folder.iterdir()) == []
