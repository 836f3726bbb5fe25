"""What pyproject.toml cannot say: which folders become packages, and the README as a package page shows it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from setuptools import find_packages, setup

_HERE = Path(__file__).resolve().parent
# ![picture](path) and [text](path), paths in this project only.
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)]+)\)")


def package_page(readme: str, source: str | None) -> str:
    """Return the README with links that work outside of the project: below ``source``, its address, or, while it has
    none, as plain text."""

    def elsewhere(link: re.Match[str]) -> str:
        picture, text, path = link.groups()
        if source is not None:
            return f"{picture}[{text}]({source.rstrip('/')}/{path})"
        return "" if picture else text

    return _LINK.sub(elsewhere, readme)


if __name__ == "__main__":
    project = tomllib.loads((_HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (_HERE / "README.md").read_text(encoding="utf-8")
    setup(
        packages=[*find_packages(include=["common*"]), "multimag"],
        package_dir={"multimag": "bundles"},
        long_description=package_page(readme, project.get("urls", {}).get("Source")),
        long_description_content_type="text/markdown",
    )
