"""Columns of datalists and tables that are written almost like one that is read."""

from __future__ import annotations

import json

import pytest

from common.cohort.manifest import read_manifest
from common.data import load_datalist


def datalist(folder, **columns):
    (folder / "d.json").write_text(json.dumps({"training": [{"image": "a.tif", **columns}]}))
    return folder / "d.json"


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("region", "regions"),
        ("regoins", "regions"),
        ("mmp", "mpp"),
        ("MPP", "mpp"),
        ("unanotated", "unannotated"),
        ("cutout", "cut_out"),
        ("label-values", "label_values"),
        (" class_map", "class_map"),
    ],
)
def test_a_misspelt_column_is_refused_and_not_ignored(tmp_path, column, meant):
    with pytest.raises(
        ValueError, match=rf'd.json: entry 0 of "training": no column {column!r} is read. Write {meant!r}'
    ):
        load_datalist(datalist(tmp_path, label="a.xml", **{column: 1}), "training")


def test_columns_of_ones_own_are_kept(tmp_path):
    own = {"stain": "ER", "case": "7", "labeled": True, "annotated": True, "region": "lobe", "image_id": 3}
    (item,) = load_datalist(datalist(tmp_path, label="a.xml", regions=[[0, 0, 8, 8]], **own), "training")
    assert own.items() <= item.items()


def test_a_cohorts_table_is_checked_too(tmp_path):
    (tmp_path / "t.csv").write_text("image,sereis\na.tif,1\n")
    with pytest.raises(ValueError, match="t.csv: line 2: no column 'sereis' is read. Write 'series'"):
        read_manifest(str(tmp_path / "t.csv"))
