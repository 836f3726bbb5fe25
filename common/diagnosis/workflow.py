"""Diagnosis of regions from their label maps: cross-validation, fit and application."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..classes import ClassScheme
from ..literal import as_path
from ..reports.scores import write_table
from ..superpixels.estimators import load_fitted, save_fitted
from .crossvalidation import CrossValidationResult, check_enough, cross_validate
from .histograms import LabelHistograms
from .regions import Division, LabelMaps, region_histograms
from .report import LABELS, DiagnosisReport, Key
from .tasks import CLASSIFIERS, DiagnosisTask, balanced, classifier

logger = logging.getLogger(__name__)
_KIND = "diagnosis of label maps"
TRUTH = "truth"


class Diagnosis:
    """Diagnosis of regions by the frequency of labels among their superpixels, and of labels that touch.

    Args:
        tasks: the tasks; see :class:`DiagnosisTask`.
        label_maps: title -> output folder of inference.yaml or sp_svm.yaml, of any bundle.
        cache_dir: folder in which histograms are cached.
        scheme: classes of the entries' own annotations, from which regions are then diagnosed as well, under the title
            ``"truth"``; None: they are not.
        stroma: names of the classes that "no stroma" leaves out.
        mpp, area, compactness: division into superpixels; see :class:`Division`.
        name_by: column of the datalist that the slides' folders are named by, if any.
        diagnosis, case: names of the datalist's columns.
        seed: random seed of folds, samples and classifiers.

    Raises:
        ValueError: there are no label maps, or two tasks have one name.
    """

    def __init__(
        self,
        tasks: Sequence[DiagnosisTask | Mapping[str, Any]],
        label_maps: Mapping[str, str | Path],
        cache_dir: str | Path,
        scheme: ClassScheme | None = None,
        stroma: Sequence[str] = (),
        mpp: float = 0.25,
        area: float = 187.5,
        compactness: float = 10.0,
        name_by: str | None = None,
        diagnosis: str = "diagnosis",
        case: str = "case",
        seed: int = 0,
    ) -> None:
        listed = [DiagnosisTask.from_config(task) for task in tasks]
        self.tasks = {task.name: task for task in listed}
        if len(self.tasks) < len(listed) or not listed:
            raise ValueError(f"tasks need names of their own: {', '.join(task.name for task in listed)}")
        self.maps: dict[str, LabelMaps | ClassScheme] = {
            title: LabelMaps(Path(folder), name_by) for title, folder in label_maps.items()
        }
        if scheme is not None:
            self.maps[TRUTH] = scheme
        if not self.maps:
            raise ValueError("no label maps to diagnose from: name output folders in label_maps")
        self.stroma, self.division = tuple(stroma), Division(mpp, area, compactness)
        self.diagnosis, self.case, self.seed, self.cache_dir = diagnosis, case, seed, Path(as_path(cache_dir))

    def cross_validate(
        self,
        items: Sequence[Mapping[str, Any]],
        output_dir: str | Path,
        folds: int = 10,
        repeats: int = 10,
        classifiers: Sequence[str] = CLASSIFIERS,
        trained_on: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        """Cross-validate every task, classifier, model and choice of labels, and write a :class:`DiagnosisReport`.

        Args:
            items: datalist entries of regions with diagnosis and case.
            output_dir: folder of the report.
            folds, repeats: number of folds and repetitions.
            classifiers: names out of :data:`CLASSIFIERS`.
            trained_on: entries that the models were trained on, which they segment better than others.

        Returns:
            The content of ``diagnosis.json``.

        Raises:
            ValueError: an entry has no diagnosis or case, or its case is among those ``trained_on``; a label map is
                missing; there are too few cases.
        """
        diagnoses, cases = self._columns(items)
        if trained_on:
            self._check_column(trained_on, self.case)
        seen = sorted(set(cases) & {str(item[self.case]) for item in trained_on})
        if seen:
            raise ValueError(
                f"cases {', '.join(seen)} were trained on: their diagnosis would look better than it is. Leave them out"
            )
        for task in self.tasks.values():
            check_enough(task, task.numbers(diagnoses), cases, folds)
        histograms = region_histograms(items, self.maps, self.division, self.cache_dir)
        results: dict[str, dict[Key, CrossValidationResult]] = {name: {} for name in self.tasks}
        jobs = [
            (name, kind, title, labels)
            for name in self.tasks
            for kind in classifiers
            for title in self.maps
            for labels in LABELS[: 1 + self._has_stroma(title, histograms[title])]
        ]
        for name, kind, title, labels in tqdm(jobs, desc="cross-validating", unit="table cell", delay=2):
            numbers = self.tasks[name].numbers(diagnoses)
            asked = np.nonzero(numbers >= 0)[0]
            without = self._without(histograms[title], labels)
            features = np.stack([histograms[title][i].features(without) for i in asked])
            asked_cases = [cases[i] for i in asked]
            results[name][(kind, title, labels)] = cross_validate(
                features, numbers[asked], asked_cases, kind, folds, repeats, self.seed
            )
        report = DiagnosisReport(self.tasks, results, {name: self._regions(name, diagnoses) for name in self.tasks})
        figures = report.write(output_dir)
        logger.info("accuracy in %%, over %d regions of %d cases:", len(items), len(set(cases)))
        for line in str(report.table().T).splitlines():
            logger.info("%s", line)
        logger.info("tables and pictures: %s", output_dir)
        return figures

    def fit(
        self,
        items: Sequence[Mapping[str, Any]],
        path: str | Path,
        title: str,
        kind: str = "SVM",
        labels: str = LABELS[0],
    ) -> None:
        """Fit a classifier for every task to all regions, and write them without pickle.

        Args:
            items: datalist entries of regions with diagnosis and case.
            path: path of the fitted model.
            title: title of the label maps.
            kind: name of the classifier, out of :data:`CLASSIFIERS`.
            labels: choice of labels, out of :data:`LABELS`.

        Raises:
            ValueError: see :meth:`cross_validate`; or the title is unknown.
        """
        self._check_title(title)
        diagnoses, cases = self._columns(items)
        for task in self.tasks.values():
            check_enough(task, task.numbers(diagnoses), cases, folds=2)
        histograms = region_histograms(items, {title: self.maps[title]}, self.division, self.cache_dir)[title]
        without = self._without(histograms, labels)
        features = np.stack([one.features(without) for one in histograms])
        pipelines = {}
        for name, task in self.tasks.items():
            numbers = task.numbers(diagnoses)
            asked = np.nonzero(numbers >= 0)[0]
            sample = asked[balanced(numbers[asked], np.random.default_rng(self.seed))]
            pipelines[name] = classifier(kind, self.seed).fit(features[sample], numbers[sample])
        settings = {
            "classes": list(histograms[0].names),
            "without": list(without),
            "division": self.division.to_json(),
            "answers": {name: task.answers for name, task in self.tasks.items()},
            "weights": self._weights(title, items),
            "cases": sorted(set(cases)),
        }
        save_fitted(path, {"kind": _KIND, "settings": settings, "pipelines": pipelines})
        logger.info("fitted to %d regions of %d cases: %s", len(items), len(set(cases)), path)

    def apply(
        self, items: Sequence[Mapping[str, Any]], path: str | Path, title: str, output_dir: str | Path
    ) -> pd.DataFrame:
        """Diagnose regions with a fitted model, and write ``diagnoses.csv``: a row per region, an answer per task.

        Args:
            items: datalist entries; they need no diagnosis. The table marks those whose case the model was fitted to.
            path: path of the fitted model.
            title: title of the label maps. They must come from the same weights as those that it was fitted to.
            output_dir: folder of the table.

        Returns:
            The table.

        Raises:
            ValueError: label maps have other classes or weights, or superpixels are divided in another way.
        """
        self._check_title(title)
        content = load_fitted(path, _KIND)
        settings = content["settings"]
        histograms = region_histograms(items, {title: self.maps[title]}, self.division, self.cache_dir)[title]
        settings_now = {
            "classes": list(histograms[0].names),
            "division": self.division.to_json(),
            "weights": self._weights(title, items),
        }
        for name, value in settings_now.items():
            if settings[name] != value:
                raise ValueError(
                    f"{path}: fitted to label maps with {name} {settings[name]}, those of {title} have {value}. "
                    "Segment with the same weights and settings, or fit again"
                )
        features = np.stack([one.features(settings["without"]) for one in histograms])
        table = pd.DataFrame({"image": [str(item["image"]) for item in items]})
        if any(item.get("regions") for item in items):
            table["regions"] = [item.get("regions") for item in items]
        if any(item.get(self.case) is not None for item in items):
            found = [None if item.get(self.case) is None else str(item[self.case]) for item in items]
            table[self.case] = found
            table["learnt from"] = [None if case is None else case in settings["cases"] for case in found]
        for name, pipeline in content["pipelines"].items():
            answers = np.array(settings["answers"][name])
            table[name] = answers[pipeline.predict(features)]
        out = Path(output_dir) / "diagnoses.csv"
        write_table(out, table)
        logger.info("%d regions: %s", len(items), out)
        return table

    def _columns(self, items: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
        known = {d for task in self.tasks.values() for group in task.groups.values() for d in group}
        self._check_column(items, self.diagnosis)
        self._check_column(items, self.case)
        for item in items:
            if str(item[self.diagnosis]) not in known:
                raise ValueError(
                    f"{item['image']}: no task asks for the diagnosis {item[self.diagnosis]!r}, only for "
                    f"{', '.join(sorted(known))}"
                )
        return [str(item[self.diagnosis]) for item in items], [str(item[self.case]) for item in items]

    @staticmethod
    def _check_column(items: Sequence[Mapping[str, Any]], column: str) -> None:
        for item in items:
            if item.get(column) is None:
                raise ValueError(f"{item['image']}: its datalist entry has no {column!r}")

    def _check_title(self, title: str) -> None:
        if title not in self.maps:
            raise ValueError(f"no label maps {title!r}; there are {', '.join(self.maps)}")

    def _has_stroma(self, title: str, histograms: Sequence[LabelHistograms]) -> bool:
        """Return whether a model's maps have classes that "no stroma" leaves out."""
        has = any(name in self.stroma for name in histograms[0].names)
        if self.stroma and not has:
            logger.warning(
                "%s: no %s among its classes, so nothing is measured without", title, " or ".join(self.stroma)
            )
        return has

    def _without(self, histograms: Sequence[LabelHistograms], labels: str) -> tuple[str, ...]:
        """Return those classes of the label maps that a choice of labels leaves out."""
        if labels not in LABELS:
            raise ValueError(f"labels must be one of {', '.join(LABELS)}, not {labels!r}")
        if labels == LABELS[0]:
            return ()
        without = tuple(name for name in histograms[0].names if name in self.stroma)
        if not without:
            raise ValueError(
                f"none of {', '.join(self.stroma)} is a class of {', '.join(histograms[0].names)}: set stroma"
            )
        return without

    def _weights(self, title: str, items: Sequence[Mapping[str, Any]]) -> str | None:
        """Return the SHA-256 of the weights of a model's label maps; None if they do not say.

        Raises:
            ValueError: the label maps come from different weights.
        """
        maps = self.maps[title]
        if not isinstance(maps, LabelMaps):
            return None
        weights = {maps.weights(item) for item in items}
        if len(weights) > 1:
            raise ValueError(f"{maps.folder}: label maps of different weights. Segment all slides with the same")
        return weights.pop()

    def _regions(self, name: str, diagnoses: Sequence[str]) -> dict[str, int]:
        numbers = self.tasks[name].numbers(diagnoses)
        return {answer: int((numbers == i).sum()) for i, answer in enumerate(self.tasks[name].answers)}
