"""Damaged slides: an error or right pixels, no crash, no hang, bounded memory. See :mod:`tests.slides.fuzz`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.slides.fuzz import KINDS

# A case takes some milliseconds; one that takes this long hangs.
SECONDS_PER_CASE = 1.0
START_SECONDS = 60


def run(first: int, count: int) -> list[dict]:
    """Cases' verdicts; a crash or hang of the process fails with the case that was begun last."""
    command = [sys.executable, "-m", "tests.slides.fuzz", str(first), str(count)]
    limit = START_SECONDS + SECONDS_PER_CASE * count
    try:
        result = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=limit, check=False)
    except subprocess.TimeoutExpired as expired:
        pytest.fail(f"hangs after {(expired.stdout or b'')[-200:]!r}")
    assert result.returncode == 0, result.stdout[-200:] + result.stderr[-2000:]
    return [case for case in map(json.loads, result.stdout.splitlines()) if "verdict" in case]


def check(cases: list[dict], count: int) -> None:
    assert len(cases) == count
    wrong = [case for case in cases if case["verdict"] == "wrong" or not case.get("named", True)]
    assert not wrong, wrong
    assert {case["kind"] for case in cases} == set(KINDS)
    # Not everything may be refused: damage to what is not read leaves the pixels right.
    verdicts = [case["verdict"] for case in cases]
    assert verdicts.count("right") > count / 50
    assert verdicts.count("error") > count / 2


def test_a_hundred_damaged_slides():
    check(run(0, 100), 100)


@pytest.mark.all
@pytest.mark.parametrize("first", range(100, 20_100, 5_000))
def test_thousands_of_damaged_slides(first):
    check(run(first, 5_000), 5_000)
