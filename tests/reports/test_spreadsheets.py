"""Cells that spreadsheets would run are text, and everything else is unchanged."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest

from common.reports.scores import write_table
from common.reports.spreadsheets import inert_cell, inert_row, inert_table, original_cell
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "--1", "+", "-"]
)
def test_text_that_could_be_a_formula_gets_an_apostrophe(text):
    assert inert_cell(text) == f"'{text}"
    assert original_cell(inert_cell(text)) == text


@pytest.mark.parametrize(
    "value", ["slide 1", "a=b", "'quoted'", "", "-0.5", "+1e-3", "-7", ".5", -0.5, -3, 0, None, True]
)
def test_other_cells_and_numbers_are_unchanged(value):
    assert inert_cell(value) is value
    assert original_cell(value) == value


@pytest.mark.parametrize("text", ["'=1", "''=1", "'-x"])
def test_text_with_an_apostrophe_of_its_own_is_given_back(text):
    assert original_cell(inert_cell(text)) == text


def test_a_path_is_text_too():
    assert inert_cell(Path("=1.svs")) == "'=1.svs"
    assert inert_cell(Path("a") / "=1.svs") == str(Path("a") / "=1.svs")
    assert inert_table(pd.DataFrame({"slide": [Path("-x.svs")]})).to_csv(index=False) == "slide\n'-x.svs\n"


def test_nothing_else_writes_tables_for_people():
    """A cache of numbers, a sum of one, and the phantom's fixed names are the only tables written without."""
    writes = re.compile(r"\.to_csv\(|\.to_excel\(|csv\.writer\(|csv\.DictWriter\(")
    found = {
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("common", "bundles")
        for path in (REPOSITORY / folder).rglob("*.py")
        if writes.search(path.read_text(encoding="utf-8")) and "spreadsheets import" not in path.read_text("utf-8")
    }
    assert found == {"common/data/index.py", "common/training/resume.py", "common/phantom/camelyon.py"}


def test_only_text_of_a_table_changes():
    table = pd.DataFrame({"slide": ["=cmd()", "b", None], "share": [-0.5, 0.25, float("nan")], "count": [-1, 2, 3]})
    written = inert_table(table).to_csv(index=False)
    assert written.splitlines() == ["slide,share,count", "'=cmd(),-0.5,-1", "b,0.25,2", ",,3"]
    assert list(table["slide"])[:2] == ["=cmd()", "b"]
    assert inert_table(table.rename(columns={"slide": "@a"})).columns[0] == "'@a"


def test_a_row_is_written_with_its_own_keys():
    to = io.StringIO(newline="")
    writer = csv.DictWriter(to, ["slide", "seconds"])
    writer.writerow(inert_row({"slide": "=1", "seconds": -1.5}))
    assert to.getvalue() == "'=1,-1.5\r\n"


def test_tables_of_reports_hold_no_formula_and_their_numbers_as_before(tmp_path):
    write_table(tmp_path / "t.csv", pd.DataFrame({"slide": ["=cmd()", "a"], "iou": [-0.5, 0.25]}))
    assert (tmp_path / "t.csv").read_text().splitlines() == ["slide,iou", "'=cmd(),-0.5", "a,0.25"]
