"""Check that a bundle can be handed on: the requirements of the Model Zoo, and more.

The static checks run no code of a bundle. The trial run that follows runs its code with the rights of the account that
started it, limited only in time and memory: it can read and change that account's files and use the network. No check
can tell what code will do. Verify bundles of strangers without the trial run, or on a machine that has nothing to lose.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import UnreadableFileError
from ..files import printable
from ..literal import literal
from .archive import unpacked
from .isolation import TrialLimits, run_isolated
from .readable import READABLE, Check
from .smoke_slide import write_smoke_slide
from .texts import read_settings

# Problems that one check names; a malicious file may have thousands.
_MOST_NAMED = 20


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: name of the check.
        problems: faults, each with its remedy; none if the check passed.
        notes: facts that are not wrong, but worth knowing.
    """

    check: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{'FAILED' if self.problems else 'ok':6} {self.check}"]
        lines += [f"         {line}" for problem in self.problems for line in printable(problem).splitlines()]
        # A note stays on one line: it may hold a stranger's names, which could look like another check.
        return "\n".join([*lines, *(f"         note: {' '.join(printable(note).splitlines())}" for note in self.notes)])


def verify_bundle(
    path: str | Path,
    schema: str | Path | None = None,
    run: bool = True,
    limits: TrialLimits | None = None,
) -> list[Finding]:
    """Check a bundle's folder or zip.

    The static checks come first and run no code of it. Only if all pass is the bundle run, from another folder, where
    this project cannot be imported, on a synthetic slide. That is no sandbox: the bundle's code has the rights of the
    account that runs it, and files and network are open to it. Only time and memory are limited.

    Args:
        path: the bundle's folder or zip.
        schema: the Model Zoo's metadata schema, to check against as well.
        run: whether to run the bundle's code.
        limits: time and memory of the trial run; see :class:`TrialLimits`.

    Returns:
        a finding per check, in order.

    Raises:
        BundleFileError: the zip must not be unpacked.
    """
    with unpacked(path) as folder:
        folder = folder.resolve()
        found = []
        for name, check in READABLE.items():
            found.append(_finding(name, check, folder))
            if found[-1].problems:
                return found
        # Loads PyTorch and MONAI, which takes seconds.
        from .checks import STATIC

        found += [_finding(name, check, folder) for name, check in STATIC.items()]
        if schema is not None:
            problems = _problems(lambda: _against_schema(folder, Path(schema)))
            found.append(Finding("the Model Zoo's schema", tuple(problems)))
        if not run or any(finding.problems for finding in found):
            return found
        return found + _run(folder, limits or TrialLimits())


def _finding(name: str, check: Check, folder: Path) -> Finding:
    notes: list[str] = []
    problems = _problems(lambda: check(folder, notes))
    return Finding(name, tuple(problems), tuple(notes))


def _problems(check: Callable[[], Iterable[str]]) -> list[str]:
    problems: list[str] = []
    try:
        for problem in check():
            if len(problems) == _MOST_NAMED:
                return [*problems, "and more of this"]
            problems.append(problem)
    except (UnreadableFileError, ValueError, OSError) as error:
        return [*problems, str(error)]
    except Exception as error:
        # A file of a bundle may hold anything at all.
        return [*problems, f"cannot be read ({type(error).__name__}: {error}). Export the bundle again"]
    return problems


def _against_schema(folder: Path, schema: Path) -> list[str]:
    import jsonschema

    metadata = read_settings(folder / "configs" / "metadata.json")
    validator = jsonschema.Draft201909Validator(json.loads(schema.read_text(encoding="utf-8")))
    return [f"configs/metadata.json: {error.json_path}: {error.message}" for error in validator.iter_errors(metadata)]


def _run(folder: Path, limits: TrialLimits) -> list[Finding]:
    with tempfile.TemporaryDirectory(prefix="multimag-") as temporary:
        work = Path(temporary)
        tasks: dict[str, Callable[[], Iterable[str]]] = {
            "metadata names channels, sizes and µm/px as the configs do": lambda: _outlines(folder, work, limits),
            "properties of training, evaluation and inference": lambda: _isolated(
                limits, "properties", str(folder), str(work / "datalist.json")
            ),
            "shapes in and out": lambda: _isolated(limits, "shape", str(folder)),
            "TorchScript": lambda: _isolated(limits, "torchscript", str(folder)),
            "trains": lambda: _train(folder, work, limits),
            "evaluates": lambda: _evaluate(folder, work, limits),
            "segments a slide": lambda: _infer(folder, work, limits),
        }
        found = []
        for name, task in tqdm(tasks.items(), desc="running the bundle", leave=False):
            found.append(Finding(name, tuple(_problems(task))))
            # Without fields of view there is no slide to try the rest on.
            if found[0].problems:
                break
        return found


def _isolated(limits: TrialLimits, *arguments: str) -> list[str]:
    run_isolated(*arguments, limits=limits)
    return []


def _outlines(folder: Path, work: Path, limits: TrialLimits) -> list[str]:
    found = json.loads(run_isolated("outline", str(folder), limits=limits).splitlines()[-1])
    write_smoke_slide(work, found["fields_of_view"], found["target"], len(found["labels"]))
    return found["problems"]


def _command(folder: Path, *configs: str, **settings: object) -> list[str]:
    files = [str(folder / "configs" / f"{name}.yaml") for name in configs]
    command = ["run", "--config_file", str(files), "--bundle_root", literal(str(folder))]
    return command + [part for key, value in settings.items() for part in (f"--{key}", literal(str(value)))]


def _train(folder: Path, work: Path, limits: TrialLimits) -> list[str]:
    short = {"epochs": 1, "samples_per_epoch": 4, "batch_size": 4, "num_workers": 0, "val_interval": 1}
    places = {"datalist": work / "datalist.json", "output_dir": work / "training", "checkpoint_dir": work / "training"}
    run_isolated(*_command(folder, "train", **short, **places), limits=limits)
    return [] if (work / "training" / "model.pt").is_file() else ["train.yaml left no model.pt in checkpoint_dir"]


def _evaluate(folder: Path, work: Path, limits: TrialLimits) -> list[str]:
    places = {"datalist": work / "datalist.json", "output_dir": work / "scores"}
    run_isolated(*_command(folder, "train", "evaluate", num_workers=0, batch_size=4, **places), limits=limits)
    return [] if (work / "scores" / "scores.json").is_file() else ["evaluate.yaml left no scores.json in output_dir"]


def _infer(folder: Path, work: Path, limits: TrialLimits) -> list[str]:
    command = _command(folder, "inference", slides=work / "datalist.json", output_dir=work / "slides")
    run_isolated(*command, limits=limits)
    missing = [name for name in ("prediction.tif", "summary.json") if not (work / "slides" / "slide" / name).is_file()]
    return [f"inference.yaml left no {name}" for name in missing]
