"""The bundles, installed as the package ``multimag``, and the command of that name."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command ``multimag``."""
    from . import clash  # noqa: F401  (ends the program if our package is hidden)

    from common.__main__ import main as run  # isort: skip

    run()
