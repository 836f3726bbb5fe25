"""Write docs/fidelity.md from docs/fidelity.yaml.

python docs/make_fidelity.py
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
_STATEMENTS, _PAGE = HERE / "fidelity.yaml", HERE / "fidelity.md"
_ABOUT = (
    "`tests/test_fidelity.py` compares the settings of these tables with the bundles' `train.yaml`, and finds the code "
    "and the tests that they name."
)
_NOTE = "<!-- Written by docs/make_fidelity.py from docs/fidelity.yaml: change that. -->"


def read() -> dict[str, Any]:
    """Return the content of fidelity.yaml."""
    return yaml.safe_load(_STATEMENTS.read_text(encoding="utf-8"))


def page() -> str:
    """Return the text of fidelity.md."""
    content = read()
    statuses = content.pop("statuses")
    lines = [_NOTE, content.pop("introduction"), "## Statement by statement", "", _ABOUT, ""]
    lines += ["| status | meaning | statements |", "|---|---|---|"]
    counts = Counter(row["status"] for method in content.values() for row in method["statements"])
    lines += [f"| {status} | {meaning} | {counts[status]} |" for status, meaning in statuses.items()]
    for method in content.values():
        bundle = method["bundle"]
        page = bundle.removeprefix("pathology_").removesuffix("_segmentation")
        lines += ["", f"### {method['paper']}", "", f"Bundle: [`{bundle}`](bundles/{page}.md)", ""]
        lines += ["| statement | source | here | test | status |", "|---|---|---|---|---|"]
        lines += [_row(row) for row in method["statements"]]
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    settings = [f"`{key.split(': ')[-1]}: {_shown(value)}`" for key, value in row.get("config", {}).items()]
    here = [*([f"`{row['code']}`"] if "code" in row else []), *settings, *([row["note"]] if "note" in row else [])]
    test = f"`{row['test']}`" if "test" in row else ""
    return f"| {row['says']} | {row['source']} | {'; '.join(here)} | {test} | {row['status']} |"


def _shown(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")


if __name__ == "__main__":
    _PAGE.write_text(page(), encoding="utf-8")
    print(_PAGE)
