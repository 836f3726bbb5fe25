"""Run a bundle's configs in this process, as ``python -m monai.bundle run`` does."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Loggers that say at every step what the progress bars show, or warn of what this module does on purpose.
_QUIET = ("ignite.engine.engine.SupervisedEvaluator", "ignite.engine.engine.SupervisedTrainer")


def command_line(bundle: Path, files: Sequence[Path], settings: Mapping[str, Any]) -> str:
    """Return the command that runs the same configs through MONAI alone."""
    configs = str(files[0]) if len(files) == 1 else str([str(path) for path in files])
    words = ["python", "-m", "monai.bundle", "run", "--config_file", configs, "--bundle_root", str(bundle)]
    for key, value in settings.items():
        # MONAI drops a key that is set to None; as an expression it is kept.
        words += [f"--{key}", "$None" if value is None else str(value)]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """Return a word as a shell takes it; lists of paths in double quotes, which are easier to read and change."""
    plain = "'" in word and not set(word) & set('"$`\\!')
    return f'"{word}"' if plain else shlex.quote(word)


def run_configs(bundle: Path, files: Sequence[Path], settings: Mapping[str, Any]) -> None:
    """Run configs of a bundle.

    Args:
        bundle: its folder.
        files: the configs, later ones over earlier ones.
        settings: values of their keys.
    """
    from monai.bundle import ConfigWorkflow

    given = {key: "$None" if value is None else value for key, value in settings.items()}
    with _quiet():
        workflow = ConfigWorkflow(
            [str(path) for path in files],
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type=None,
            bundle_root=str(bundle),
            **given,
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (*_QUIET, "monai.bundle.workflows", "BundleWorkflow")]
    before = [(logger, logger.level) for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in before:
            logger.setLevel(level)
