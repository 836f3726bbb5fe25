"""A segmentation ended by a signal leaves files that the same command resumes from."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.inference.children import (
    end_of,
    ended,
    exit_code,
    last_line,
    predict_slowly,
    segment,
    started,
    stopped,
)
from tests.inference.test_resume import contents

_SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended by SIGTERM", signal.SIGKILL: ""}


def left_over(folder: Path) -> list[str]:
    """Names of locks and temporary files."""
    return [path.name for path in folder.rglob("*") if ".partial" in path.name or path.name.endswith("lock")]


def check_stopped_and_resumed(whole: SimpleNamespace, folder: Path, number: signal.Signals, moment: int) -> None:
    out, log = folder / f"{number.name}-{moment}", folder / "log"
    result = stopped(log, whole.slide, out, number, moment)
    assert result.code == exit_code(number), result.said
    assert "Traceback" not in result.said
    finished = (out / "s" / "summary.json").exists()
    if number != signal.SIGKILL:
        said = f"{_SIGNALS[number]}. Finished slides, blocks and epochs are kept: the same command resumes"
        assert last_line(result.said) == said
        assert left_over(out) == []
        if not finished:
            # No output has its final name before the summary that certifies it.
            assert [path.name for path in out.glob("s/*") if path.name != ".unfinished"] == []
    if finished:
        assert {name: part for name, part in contents(out / "s").items() if not name.startswith(".")} == whole.outputs
    again = ended(log, segment, whole.slide, out)
    assert again.code == 0, again.said
    assert contents(out / "s") == whole.outputs


@pytest.mark.parametrize(("number", "share"), [(signal.SIGINT, 0.3), (signal.SIGTERM, 0.85), (signal.SIGKILL, 0.6)])
def test_the_same_command_resumes_after_a_signal(whole, tmp_path, number, share):
    check_stopped_and_resumed(whole, tmp_path, number, int(whole.moments * share))


@pytest.mark.all
@pytest.mark.parametrize("number", _SIGNALS)
def test_the_same_command_resumes_after_a_signal_at_any_moment(whole, tmp_path, number):
    assert whole.moments > 60
    for moment in sorted(random.Random(number).sample(range(whole.moments), 10)):
        check_stopped_and_resumed(whole, tmp_path, number, moment)


def _ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _hang_up(slide: Path, out: Path) -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    segment(slide, out)


def test_a_closed_terminal_ends_a_run_unless_nohup_says_otherwise(whole, tmp_path):
    result = ended(tmp_path / "log", _hang_up, whole.slide, tmp_path / "out")
    assert result.code == 128 + signal.SIGHUP
    assert last_line(result.said).startswith("ended by SIGHUP. ")
    result = ended(tmp_path / "log", _hang_up, whole.slide, tmp_path / "out", before=_ignore_hangups)
    assert result.code == 0
    assert contents(tmp_path / "out" / "s") == whole.outputs


def test_of_two_processes_in_one_folder_one_is_refused_and_the_other_undisturbed(whole, tmp_path):
    logs = [tmp_path / "first", tmp_path / "second"]
    slow = [started(log, segment, whole.slide, tmp_path / "out", before=predict_slowly) for log in logs]
    results = [end_of(process, log) for process, log in zip(slow, logs, strict=True)]
    assert sorted(result.code for result in results) == [0, 1]
    refused = next(result.said for result in results if result.code)
    assert "out/s: another process is at work here. Wait for it, or choose another output folder" in refused
    assert "Traceback" not in refused
    assert contents(tmp_path / "out" / "s") == whole.outputs


def test_the_lock_of_a_killed_process_keeps_no_one_out(whole, tmp_path):
    assert stopped(tmp_path / "log", whole.slide, tmp_path / "out", signal.SIGKILL, 20).code == -signal.SIGKILL
    assert (tmp_path / "out" / "s" / ".lock").exists()
    assert ended(tmp_path / "log", segment, whole.slide, tmp_path / "out").code == 0
    assert contents(tmp_path / "out" / "s") == whole.outputs
