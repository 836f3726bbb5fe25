"""Damaged files of an unfinished slide: they are predicted again, or refused with a remedy."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.inference.children import BLOCKS
from tests.inference.test_resume import Stepwise, contents, run

_STOPPED_AT = 6


@pytest.fixture(scope="module")
def begun(whole, scheme, tmp_path_factory) -> SimpleNamespace:
    """A slide, the outputs of an undisturbed run, and the folder of one that was stopped after five of nine blocks."""
    out = tmp_path_factory.mktemp("begun")
    with pytest.raises(RuntimeError, match="out of memory"):
        run(str(whole.slide), out, scheme, Stepwise(stop_after=_STOPPED_AT))
    return SimpleNamespace(slide=whole.slide, outputs=whole.outputs, out=out)


def lines_of(begun: SimpleNamespace) -> list[str]:
    return (begun.out / "s" / ".unfinished" / "blocks.txt").read_text().splitlines()


def chunk(folder: Path, name: str) -> Path:
    """A map's chunk of the first finished block."""
    return next(path for path in sorted((folder / f"{name}.zarr" / "c").rglob("0")) if path.is_file())


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(max(40, path.stat().st_size)))


def one_line_is(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / "blocks.txt"
        path.write_text("\n".join([text, *path.read_text().splitlines()[1:]]) + "\n")

    return write


# What happens to the folder of an unfinished slide, how many blocks are then predicted again, and the word for it.
DAMAGE: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "settings cut off": (lambda folder: cut_off(folder / "settings.json"), BLOCKS, "settings.json is damaged"),
    "settings of bytes": (lambda folder: garbage(folder / "settings.json"), BLOCKS, "settings.json is damaged"),
    "settings a list": (lambda folder: (folder / "settings.json").write_text("[1]"), BLOCKS, "is damaged"),
    "settings null": (lambda folder: (folder / "settings.json").write_text("null"), BLOCKS, "is damaged"),
    "settings empty": (lambda folder: (folder / "settings.json").write_text(""), BLOCKS, "is damaged"),
    "blocks of bytes": (lambda folder: garbage(folder / "blocks.txt"), BLOCKS, "the log lacks 5 blocks"),
    "blocks empty": (lambda folder: (folder / "blocks.txt").write_text(""), BLOCKS, "the log lacks 5 blocks"),
    "a line of JSON": (one_line_is('{"top": 0, "left": 0}'), 5, "blocks of 1 of its lines are predicted again"),
    "a line without checksum": (one_line_is("0 0"), 5, "1 lines are of an earlier version"),
    "a line of another block": (one_line_is("7 7 00000000"), 5, "the log lacks 1 blocks"),
    "log gone": (lambda folder: (folder / "blocks.txt").unlink(), BLOCKS, "the log lacks 5 blocks"),
    "map's header cut off": (lambda folder: cut_off(folder / "labels.zarr" / "zarr.json"), BLOCKS, "are damaged"),
    "map gone": (lambda folder: shutil.rmtree(folder / "entropy.zarr"), BLOCKS, "are damaged"),
    "map of another size": (
        lambda folder: (folder / "labels.zarr" / "zarr.json").write_text(
            (folder / "labels.zarr" / "zarr.json").read_text().replace("384", "385")
        ),
        BLOCKS,
        "are damaged",
    ),
    "labels cut off": (lambda folder: cut_off(chunk(folder, "labels")), 5, "1 finished blocks are damaged"),
    "labels of bytes": (lambda folder: garbage(chunk(folder, "labels")), 5, "1 finished blocks are damaged"),
    "labels empty": (lambda folder: chunk(folder, "labels").write_bytes(b""), 5, "1 finished blocks are damaged"),
    "labels gone": (lambda folder: chunk(folder, "labels").unlink(), 5, "1 finished blocks are damaged"),
    "entropy gone": (lambda folder: chunk(folder, "entropy").unlink(), 5, "1 finished blocks are damaged"),
    "a probability gone": (lambda folder: chunk(folder, "probabilities").unlink(), 5, "1 finished blocks are damaged"),
    "pixels of another block": (
        lambda folder: shutil.copy(folder / "entropy.zarr/c/1/1", folder / "entropy.zarr/c/0/0"),
        5,
        "1 finished blocks are damaged",
    ),
}


# One of each kind; the others repeat it.
_FIRST = (
    "settings cut off",
    "blocks empty",
    "a line of JSON",
    "a line without checksum",
    "a line of another block",
    "map's header cut off",
    "labels cut off",
    "a probability gone",
)


@pytest.mark.parametrize(
    "damage", [pytest.param(name, marks=() if name in _FIRST else pytest.mark.all) for name in DAMAGE]
)
def test_damaged_progress_is_predicted_again_with_a_warning(begun, scheme, tmp_path, caplog, damage):
    damages, blocks, word = DAMAGE[damage]
    assert word
    assert len(lines_of(begun)) == 5
    shutil.copytree(begun.out, tmp_path / "out")
    damages(tmp_path / "out" / "s" / ".unfinished")
    with caplog.at_level(logging.WARNING):
        run(str(begun.slide), tmp_path / "out", scheme, network := Stepwise())
    assert network.calls == blocks
    assert word in caplog.text
    assert contents(tmp_path / "out" / "s") == begun.outputs


def test_undamaged_progress_is_kept_without_a_warning(begun, scheme, tmp_path, caplog):
    shutil.copytree(begun.out, tmp_path / "out")
    with caplog.at_level(logging.WARNING):
        run(str(begun.slide), tmp_path / "out", scheme, network := Stepwise())
    assert network.calls == BLOCKS - 5
    assert caplog.text == ""


def test_an_output_that_was_cut_off_later_is_refused_and_made_again_once_it_is_moved(begun, scheme, tmp_path):
    run(str(begun.slide), tmp_path / "out", scheme, Stepwise())
    prediction = tmp_path / "out" / "s" / "prediction.tif"
    size = prediction.stat().st_size
    cut_off(prediction)
    _, result = run(str(begun.slide), tmp_path / "out", scheme, Stepwise())
    assert result["error"] == (
        f"{prediction} has {size // 2} bytes, and had {size} when it was written: it is cut off, or was changed. "
        "Move it away, and the same command makes it again"
    )
    prediction.unlink()
    _, result = run(str(begun.slide), tmp_path / "out", scheme, Stepwise())
    assert contents(tmp_path / "out" / "s") == begun.outputs


@pytest.mark.parametrize("text", ['{"slide": {"file"', '{"settings": []}'])
def test_a_damaged_summary_is_refused_until_it_is_removed(begun, scheme, tmp_path, text):
    run(str(begun.slide), tmp_path / "out", scheme, Stepwise())
    summary = tmp_path / "out" / "s" / "summary.json"
    summary.write_text(text)
    _, result = run(str(begun.slide), tmp_path / "out", scheme, Stepwise())
    assert f"{summary} is damaged" in result["error"]
    assert "Remove it, and the slide is segmented again" in result["error"]
    summary.unlink()
    run(str(begun.slide), tmp_path / "out", scheme, Stepwise())
    assert contents(tmp_path / "out" / "s") == begun.outputs


def test_clock_and_time_zone_do_not_affect_outputs(begun, scheme, tmp_path, monkeypatch):
    """Files of a run may be from what is now the future: a clock was set back, or another machine's is ahead."""
    shutil.copytree(begun.out, tmp_path / "out")
    unfinished = tmp_path / "out" / "s" / ".unfinished"
    future = 4_000_000_000
    for path in [*unfinished.rglob("*"), unfinished]:
        os.utime(path, (future, future))
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    run(str(begun.slide), tmp_path / "out", scheme, network := Stepwise())
    assert network.calls == BLOCKS - 5
    for path in (tmp_path / "out" / "s").iterdir():
        os.utime(path, (future, future))
    monkeypatch.setenv("TZ", "Pacific/Honolulu")
    _, result = run(str(begun.slide), tmp_path / "out", scheme, again := Stepwise())
    assert again.calls == 0
    assert "error" not in result
    assert json.loads(contents(tmp_path / "out" / "s")["summary.json"]) == json.loads(begun.outputs["summary.json"])
