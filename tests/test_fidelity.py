"""The table of what the papers state: its settings, code and tests are there, and the page is made of it."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
from monai.bundle import ConfigParser

from tests.conftest import REPOSITORY

_SPEC = importlib.util.spec_from_file_location("make_fidelity", REPOSITORY / "docs" / "make_fidelity.py")
assert _SPEC is not None
assert _SPEC.loader is not None
make_fidelity = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make_fidelity)

CONTENT = make_fidelity.read()
STATUSES = CONTENT.pop("statuses")
CONTENT.pop("introduction")
ROWS = [
    pytest.param(method["bundle"], row, id=f"{name}: {row['says'][:40]}")
    for name, method in CONTENT.items()
    for row in method["statements"]
]


def test_the_page_is_made_of_the_table():
    assert (REPOSITORY / "docs" / "fidelity.md").read_text() == make_fidelity.page()


def at(name: str) -> Any:
    """Return what a dotted name stands for."""
    module, attribute = name.rsplit(".", 1)
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError:
        return importlib.import_module(name)


@pytest.mark.parametrize(("bundle", "row"), ROWS)
def test_a_statement_names_what_is_there(bundle, row):
    assert set(row) <= {"says", "source", "config", "code", "test", "status", "note"}
    assert row["status"] in STATUSES
    for key, value in row.get("config", {}).items():
        file, key = key.split(": ") if ": " in key else ("train.yaml", key)
        parser = ConfigParser(ConfigParser.load_config_file(REPOSITORY / "bundles" / bundle / "configs" / file))
        assert parser[key] == value
    if "code" in row:
        assert at(row["code"])
    if "test" in row:
        path, name = row["test"].split("::")
        assert re.search(rf"^def {name}\(", (REPOSITORY / "tests" / path).read_text(), re.MULTILINE)
    # Whatever is claimed is shown by a setting, a test or a reason.
    assert {"config", "test", "note"} & set(row) or row["status"] == "needs data"
