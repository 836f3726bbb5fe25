"""Run a bundle's configs in this process, as ``python -m monai.bundle run`` does."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import fire

from ..literal import literal
from ..renamed_keys import translated

logger = logging.getLogger(__name__)

_ENGINES = ("SupervisedEvaluator", "SupervisedTrainer", "AdversarialTrainer")
# Messages of ignite's engines and MONAI's StatsHandler that a run begins, ends, or is about to fail.
_NOISE = re.compile(r"(Engine|Current) run|Epoch\[\d+\] Complete|Exception:")


def command_line(bundle: Path, files: Sequence[Path], settings: Mapping[str, Any]) -> str:
    """Return the command that runs the same configs through MONAI alone."""
    configs = str(files[0]) if len(files) == 1 else str([str(path) for path in files])
    words = ["python", "-m", "monai.bundle", "run", "--config_file", configs]
    for key, value in {"bundle_root": str(bundle), **settings}.items():
        words += [f"--{key}", _typed(value)]
    return " ".join(map(_quoted, words))


def _typed(value: Any) -> str:
    """Return a config's value in the form that MONAI's command line takes."""
    if value is None:
        # MONAI drops a key that is set to None; as an expression it is kept.
        return "$None"
    given = literal(value)
    if isinstance(given, str) and fire.parser.DefaultParseValue(given) != given:
        # In quotes, a folder called 2023 is no number.
        return repr(given)
    return str(given)


def _quoted(word: str) -> str:
    """Return a word quoted for a shell; lists of paths in double quotes, which are easier to read and change."""
    plain = "'" in word and not set(word) & set('"$`\\!')
    return f'"{word}"' if plain else shlex.quote(word)


@cache
def say_loading() -> None:
    """Print, once, that libraries are being loaded, which takes seconds; nothing if they are already."""
    if "monai" not in sys.modules:
        print("loading PyTorch and MONAI …", file=sys.stderr, flush=True)


def run_configs(bundle: Path, files: Sequence[Path], settings: Mapping[str, Any]) -> None:
    """Run configs of a bundle.

    Args:
        bundle: the bundle's folder.
        files: the configs, later ones over earlier ones.
        settings: values of their keys.
    """
    say_loading()
    from monai.bundle import ConfigWorkflow

    from .parser import load_configs

    content = load_configs(files)
    settings = translated(settings, content, logger.warning)
    given = {key: "$None" if value is None else literal(value) for key, value in settings.items()}
    with _quiet():
        workflow = ConfigWorkflow(
            [str(path) for path in files],
            meta_file=str(bundle / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type=None,
        )
        workflow.parser.read_config(content)
        workflow.parser.update({"bundle_root": literal(str(bundle)), **given})
        workflow.initialize()
        workflow.run()
        workflow.finalize()


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop log messages that repeat progress bars and errors; losses and scores of epochs stay."""
    warnings_of_monai = logging.getLogger("monai.bundle.workflows")
    level = warnings_of_monai.level
    warnings_of_monai.setLevel(logging.ERROR)
    engines = [logging.getLogger(f"ignite.engine.engine.{name}") for name in _ENGINES]
    for logger in engines:
        logger.addFilter(_says_something)
    try:
        yield
    finally:
        warnings_of_monai.setLevel(level)
        for logger in engines:
            logger.removeFilter(_says_something)


def _says_something(record: logging.LogRecord) -> bool:
    return not _NOISE.match(record.getMessage())
