"""The report has a row per slide, whichever version segmented it."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from common.cohort.manifest import CohortSlide
from common.cohort.report import CohortReport
from common.cohort.store import open_store


def record(**seconds: float) -> dict[str, Any]:
    return {
        "files": {"prediction.tif": {"bytes": 3, "sha256": "0" * 64}},
        "settings": "s",
        "slide": {"file": "a.svs", "bytes": 5, "modified": 0},
        "entry": {},
        "seconds": seconds,
        "predicted_mm2": 1.5,
        "worker": "w",
        "finished": "now",
    }


@pytest.mark.parametrize(
    "seconds",
    [
        {"download": 1.0, "segmenting": 2.0, "upload": 3.0},
        # The name in records of the previous version.
        {"staging": 1.0, "segmenting": 2.0, "upload": 3.0},
    ],
    ids=["now", "before"],
)
def test_the_seconds_of_every_stage_are_read_from_a_record(tmp_path, seconds):
    store = open_store(tmp_path, tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "prediction.tif").write_bytes(b"tif")
    store.commit("a", record(**seconds))
    found = store.record("a")
    assert found is not None
    report = CohortReport([CohortSlide("a", "a.svs", {})])
    report.add_segmented_before("a", found)
    report.write(store, {})
    (row,) = csv.DictReader(io.StringIO((tmp_path / "cohort.csv").read_text()))
    assert (row["download"], row["segmenting"], row["upload"]) == ("1.0", "2.0", "3.0")
    assert (row["status"], row["output_bytes"], row["tries"]) == ("segmented before", "3", "0")
