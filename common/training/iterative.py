"""Iterative training: each step learns from annotations and from the previous step's predictions."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from monai.bundle import ConfigParser, ConfigWorkflow

from ..classes import NO_FALLBACK
from ..data import load_datalist, output_name, output_names, section_names
from ..data.store import PSEUDO_LABEL, label_fingerprint
from ..figures import new_figure, save_figure
from ..files import remove, safe_name, sha256, write_json
from ..literal import as_path, literal
from ..networks.checkpoint_metadata import metadata_path
from ..renamed_keys import translated
from ..reports.scores import write_table
from ..slides import read_options, slide_keys, slide_state

logger = logging.getLogger(__name__)

CHECKPOINT = "model.pt"
_PREDICTION = "prediction.tif"
_CONFIGS = ("train.yaml", "evaluate.yaml", "inference.yaml")


@dataclass(frozen=True)
class Step:
    """A step of :class:`IterativeTraining`.

    Attributes:
        name: name of the step's folder.
        configs: overlays of the bundle, on its train.yaml, evaluate.yaml and inference.yaml.
        settings: values of keys of train.yaml and evaluate.yaml: epochs, learning rate, augmentations, weights.
        threshold: probability that a predicted pixel needs to become a label of the next step.
        predictions: whether the step also learns from the previous step's predictions, or from annotations only.
        goes_on: whether the step starts from the previous step's weights.
    """

    name: str
    configs: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    threshold: float = 0.5
    predictions: bool = True
    goes_on: bool = False


class IterativeTraining:
    """A training in steps, each in a folder of its own. The same command resumes; finished parts are not repeated.

    A step trains (``model.pt``), is scored on the validation slides (``validation/``), and predicts all training slides
    (``slides/``), where pixels at which no class reaches the threshold stay unlabelled. The next step learns from these
    labels where there is no annotation; annotations always take precedence.

    Args:
        bundle_root: folder of the bundle.
        datalist: annotated slides in its sections ``training`` and ``validation``; further slides to learn from in
            ``unlabelled``, if it has that section.
        output_dir: folder to write to; see :meth:`run`.
        steps: :class:`Step`, or mappings of its fields.
        configs: overlays in every step, over the step's own: names in the bundle's ``configs/``, or paths.
        settings: values of keys of train.yaml and evaluate.yaml in every step, over the step's own; and of
            inference.yaml, if it has the keys.
        inference: values of further keys of inference.yaml in every step.

    Raises:
        ValueError: there is no step, two have the same name, or the first one needs a previous one.
        FileNotFoundError: a config does not exist.

    Source: Modi et al. 2024, section Training, Fig. 11 and Table 8.
    """

    def __init__(
        self,
        bundle_root: str | Path,
        datalist: str | Path,
        output_dir: str | Path,
        steps: Sequence[Step | Mapping[str, Any]],
        configs: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        inference: Mapping[str, Any] | None = None,
    ) -> None:
        self.bundle, self.datalist, self.output_dir = Path(bundle_root), Path(datalist), Path(as_path(output_dir))
        self.steps = [step if isinstance(step, Step) else Step(**step) for step in steps]
        self.configs, self.settings, self.inference = list(configs), dict(settings or {}), dict(inference or {})
        names = [step.name for step in self.steps]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"iterative training needs steps of different names, not {names}")
        if self.steps[0].predictions or self.steps[0].goes_on:
            raise ValueError(
                f"the first step, {names[0]!r}, has none before it: set its predictions and goes_on to false"
            )

    def run(self) -> pd.DataFrame:
        """Run all unfinished parts of all steps.

        A step's folder, ``<output_dir>/<number>_<name>/``, has ``step.json`` (its settings), ``datalist.json``,
        ``training/`` (logs), ``model.pt``, ``validation/`` (scores) and ``slides/<slide>/`` (predictions);
        ``output_dir`` has ``steps.csv`` and ``steps.png``.

        Returns:
            a row per step: mean IoU and IoU of each class on the validation slides, and the area of the training slides
            that it labelled for the next one.

        Raises:
            ValueError: a folder holds a step of other settings, or a slide is both learnt from and scored on.
            SystemExit: a slide cannot be segmented; the message names it. Take it out of ``unlabelled``.
        """
        self._check_sections()
        rows = []
        for number, step in enumerate(self.steps):
            logger.info("step %d of %d: %s", number + 1, len(self.steps), step.name)
            folder = self.folder(number)
            self._claim(folder, number)
            self._write_datalist(folder, number)
            self._train(folder, number)
            self._score(folder, number)
            if number + 1 < len(self.steps):
                self._predict(folder, number)
            rows.append(self._row(folder, number))
            table = pd.DataFrame(rows)
            write_table(self.output_dir / "steps.csv", table)
            plot_steps(table, self.output_dir / "steps.png")
        for line in table.round(3).to_string(index=False).splitlines():
            logger.info("%s", line)
        logger.info("%s", self.output_dir / "steps.csv")
        return table

    def _check_sections(self) -> None:
        """Check that no slide is both learnt from and scored on."""
        learnt = list(self._training_slides().values())
        for section in ("validation", "testing"):
            if section in section_names(self.datalist):
                scored = load_datalist(self.datalist, section, require_label=False)
                keys = slide_keys({**item, "image": Path(item["image"]).resolve()} for item in (*learnt, *scored))
                learnt_keys = set(keys[: len(learnt)])
                for item, key in zip(scored, keys[len(learnt) :], strict=True):
                    if key in learnt_keys:
                        raise ValueError(f"{self.datalist}: {item['image']} is in {section} and also to learn from")

    def folder(self, number: int) -> Path:
        """Return the folder of a step."""
        return self.output_dir / safe_name(f"{number}_{self.steps[number].name}")

    def _claim(self, folder: Path, number: int) -> None:
        """Write a step's settings to its folder, or check that the folder's are the same."""
        step = self.steps[number]
        before = None if number == 0 else sha256(self.folder(number - 1) / CHECKPOINT)
        slides = [*self._learnt(number), *load_datalist(self.datalist, "validation")]
        described = {
            "step": asdict(step),
            "configs": {name: sha256(self._config(name)) for name in (*_CONFIGS, *step.configs, *self.configs)},
            "settings": self.settings,
            "inference": self.inference,
            "slides": [_slide_record(item) for item in slides],
            "checkpoint_before": before,
        }
        described = json.loads(json.dumps(described, default=str))
        path = folder / "step.json"
        if not path.exists():
            write_json(path, described)
            return
        found = json.loads(path.read_text(encoding="utf-8"))
        changed = [key for key in described if found.get(key) != described[key]]
        if changed:
            raise ValueError(
                f"{folder}: a step with other {', '.join(changed)} is there already. Take the same, or set output_dir "
                "to another folder"
            )

    def _learnt(self, number: int) -> list[dict[str, Any]]:
        """Return the entries that a step learns from, without the previous step's predictions."""
        if self.steps[number].predictions:
            return list(self._training_slides().values())
        return load_datalist(self.datalist, "training")

    def _write_datalist(self, folder: Path, number: int) -> None:
        sections = {
            section: load_datalist(self.datalist, section, require_label=False)
            for section in section_names(self.datalist)
        }
        sections["training"] = self._learnt(number)
        if self.steps[number].predictions:
            before = self.folder(number - 1) / "slides"
            sections["training"] = [
                {**item, PSEUDO_LABEL: str((before / output_name(item) / _PREDICTION).absolute())}
                for item in sections["training"]
            ]
        write_json(folder / "datalist.json", sections)

    def _training_slides(self) -> dict[str, dict[str, Any]]:
        """Return all slides to learn from, by the names of their output folders."""
        sections = [name for name in ("training", "unlabelled") if name in section_names(self.datalist)]
        items = [item for name in sections for item in load_datalist(self.datalist, name, require_label=False)]
        try:
            return dict(zip(output_names(items), items, strict=True))
        except ValueError as error:
            raise ValueError(
                f"{self.datalist}: two training entries of one slide, or of one file name. Put all regions of a slide "
                f"into one entry, and rename files ({error})"
            ) from error

    def _train(self, folder: Path, number: int) -> None:
        if (folder / CHECKPOINT).exists():
            return
        step, training = self.steps[number], folder / "training"
        # Remove the files of a training that was stopped.
        remove(training)
        start = {"init_weights": str(self.folder(number - 1) / CHECKPOINT)} if step.goes_on else {}
        files = {"checkpoint_dir": str(training), "checkpoint_name": CHECKPOINT}
        self._work("train", ["train.yaml"], number, training, **{**self._trained(number), **files, **start})
        if not (training / CHECKPOINT).exists():
            raise ValueError(f"{training}: training ended without a checkpoint. Set val_interval to at most epochs")
        described = metadata_path(CHECKPOINT)
        # Moved before the checkpoint, since a step that has its checkpoint counts as trained.
        if (training / described).exists():
            (training / described).rename(folder / described)
        (training / CHECKPOINT).rename(folder / CHECKPOINT)

    def _score(self, folder: Path, number: int) -> None:
        scores, checkpoint = folder / "validation", sha256(folder / CHECKPOINT)
        done = scores / "of_checkpoint.json"
        if done.exists() and json.loads(done.read_text(encoding="utf-8"))["sha256"] == checkpoint:
            return
        remove(scores)
        given = {**self._trained(number), "section": "validation", "checkpoint": str(folder / CHECKPOINT)}
        self._work("train", ["train.yaml", "evaluate.yaml"], number, scores, **given)
        write_json(done, {"sha256": checkpoint})

    def _predict(self, folder: Path, number: int) -> None:
        """Predict the training slides; the engine resumes where it was stopped."""
        slides = write_slides(folder / "predicted.json", list(self._training_slides().values()))
        # Views and network are the same as in training.
        known = ConfigParser.load_config_file(str(self._config("inference.yaml")))
        of_all = translated(self._settings(number), known, logger.warning)
        given = {key: value for key, value in of_all.items() if key.split("#")[0] in known}
        given |= {
            "slides": str(slides),
            "section": "training",
            "checkpoint": str(folder / CHECKPOINT),
            "outputs": [_PREDICTION, "overlay.png", "summary.json"],
            "scheme#threshold": self.steps[number].threshold,
            "scheme#otherwise": NO_FALLBACK,
            **self.inference,
        }
        self._work("infer", ["inference.yaml"], number, folder / "slides", **given)

    def _settings(self, number: int) -> dict[str, Any]:
        """Return a step's settings; those of all steps take precedence."""
        return {**self.steps[number].settings, **self.settings}

    def _trained(self, number: int) -> dict[str, Any]:
        datalist = {"datalist": str(self.folder(number) / "datalist.json")}
        # Every epoch can be the best, whatever an overlay says.
        fixed = {"cache_dir": str(self.output_dir / "patch_index"), "val_interval": 1}
        return {**fixed, **self._settings(number), **datalist}

    def _config(self, name: str) -> Path:
        """Return the path of a config: the bundle's, else the user's own."""
        inside = self.bundle / "configs" / name
        return inside if inside.exists() else Path(name)

    def _work(self, kind: str, configs: Sequence[str], number: int, output_dir: Path, **given: Any) -> None:
        """Run the bundle."""
        names = [*configs, *self.steps[number].configs, *self.configs]
        files = [str(self._config(name)) for name in names]
        given = translated(given, ConfigParser.load_config_files(files), logger.warning)
        workflow = ConfigWorkflow(
            config_file=files,
            meta_file=str(self._config("metadata.json")),
            logging_file=False,
            workflow_type=kind,
            bundle_root=literal(str(self.bundle)),
            output_dir=literal(str(output_dir)),
            **literal(given),
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()

    def _row(self, folder: Path, number: int) -> dict[str, Any]:
        results = json.loads((folder / "validation" / "scores.json").read_text(encoding="utf-8"))
        ious = {f"IoU {name}": row["iou"] for name, row in results["classes"].items()}
        row = {"step": self.steps[number].name, "mean IoU": results["mean_iou"], **ious}
        return {**row, **self._labelled(folder)}

    def _labelled(self, folder: Path) -> dict[str, float]:
        """Return the mm² of each class in a step's predictions."""
        areas: dict[str, float] = {}
        for path in sorted((folder / "slides").glob("*/summary.json")):
            for name, found in json.loads(path.read_text(encoding="utf-8"))["classes"].items():
                areas[f"predicted {name} mm²"] = areas.get(f"predicted {name} mm²", 0.0) + found["area_mm2"]
        return areas


def _slide_record(item: Mapping[str, Any]) -> list[Any]:
    """Return the part of a step's record on an entry that it learns from."""
    # Without options for reading, the record is the same as before such options existed.
    read = [read_options(item)] if read_options(item) else []
    return [item["image"], slide_state(item["image"]).size, label_fingerprint(item), *read]


def write_slides(path: Path, items: Sequence[Mapping[str, Any]]) -> Path:
    """Write a datalist of whole slides to segment, without their regions."""
    write_json(path, {"training": [{k: v for k, v in item.items() if k != "regions"} for item in items]})
    return path


def plot_steps(table: pd.DataFrame, path: Path) -> None:
    """Draw mean IoU and IoU of each class over the steps."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for column in (name for name in table.columns if "IoU" in name):
        axes.plot(table["step"], table[column].astype(float), marker="o", linewidth=2.2 if "mean" in column else 1.2)
    axes.legend([name for name in table.columns if "IoU" in name], fontsize=8)
    axes.set(ylabel="on the validation slides", ylim=(0, 1))
    axes.grid(alpha=0.3)
    save_figure(figure, path)
