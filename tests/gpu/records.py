"""Keep the kit's results: one line of JSON each, as they come, and the tables made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Records:
    """Rows of figures in a file that every step appends to.

    Args:
        path: the file; made when the first row is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, step: str, row: str, **figures: Any) -> None:
        """Append one row, and print it: what a killed process had measured is kept."""
        line = json.dumps({"step": step, "row": row, **figures}, default=float)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(f"  {row}: " + ", ".join(f"{name} {_shown(value)}" for name, value in figures.items()), flush=True)

    def rows(self) -> list[Row]:
        """Return all rows so far."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


def as_markdown(rows: Iterable[Row]) -> str:
    """Return one table per step, with the columns that its rows have: first the run, last how the steps ended."""
    steps: dict[str, list[Row]] = {}
    for row in rows:
        steps.setdefault(row["step"], []).append(row)
    ordered = sorted(steps, key=lambda step: (step == "steps") - (step == "run"))
    return "\n".join(_table(step, steps[step]) for step in ordered)


def _table(step: str, rows: list[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "step"))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_shown(row.get(column, "")) for column in columns] for row in rows]
    return f"## {step}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4g}"
    return str(value).replace("|", "/").replace("\n", " ")


def parse_markdown(text: str) -> dict[str, list[dict[str, str]]]:
    """Return the rows of each step's table.

    Raises:
        ValueError: a row has another number of cells than its head.
    """
    tables: dict[str, list[dict[str, str]]] = {}
    step, head = "", None
    for line in text.splitlines():
        if line.startswith("## "):
            step, head = line[3:], None
            tables[step] = []
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            if head is None:
                head = cells
            elif not all(cell == "---" for cell in cells):
                tables[step].append(dict(zip(head, cells, strict=True)))
    return tables
