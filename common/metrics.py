"""Scores from one global confusion matrix over labelled pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from monai.networks.utils import eval_mode

from .classes import ClassScheme
from .losses import WeightedCrossEntropyLoss

OTSU = (None, "skipped", "exclude")


def confusion_matrix(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels by true class (row) and predicted class (column).

    Args:
        prediction: label map; 0 (not predicted) counts in the last column.
        truth: label map of the same shape; 0 (unlabelled) is not counted.

    Returns:
        ``(num_classes, num_classes + 1)`` int64; the last column is "not predicted".
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} differ in shape")
    labelled = truth > 0
    row = truth[labelled].astype(np.int64) - 1
    column = (prediction[labelled].astype(np.int64) - 1) % (num_classes + 1)
    if row.size and (row.max() >= num_classes or prediction[labelled].max() > num_classes):
        raise ValueError(f"a label above {num_classes}, the number of classes")
    counts = np.bincount(row * (num_classes + 1) + column, minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1)


def scores(matrix: np.ndarray, names: Sequence[str], classes: Sequence[str] | None = None) -> dict[str, Any]:
    """IoU, recall, precision and F1 per class and their plain means, and pixel accuracy.

    Args:
        matrix: from :func:`confusion_matrix`.
        names: class names in label order.
        classes: those that count; pixels of other true classes do not. All by default.

    Returns:
        ``mean_iou``, ``mean_recall``, ``mean_precision``, ``mean_f1``, ``pixel_accuracy``, ``labelled_pixels``,
        ``not_predicted`` (share of labelled pixels) and ``classes``: the figures per class. A class without labelled
        pixels has no figures (None) and does not enter the means.

    Raises:
        ValueError: ``classes`` names one that there is not.

    Source: Ho et al. 2021, eqs. 3–5.
    """
    if classes is not None:
        unknown = sorted(set(classes) - set(names))
        if unknown:
            raise ValueError(f"no class {', '.join(unknown)}; there are {', '.join(names)}")
        matrix = np.where(np.isin(names, list(classes))[:, None], matrix, 0)
    square = matrix[:, : len(names)].astype(np.float64)
    hit, true, predicted = np.diag(square), matrix.sum(axis=1).astype(np.float64), square.sum(axis=0)
    present = true > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        figures = {
            "iou": hit / (true + predicted - hit),
            "recall": hit / true,
            # Never predicted though present: nothing it said was right.
            "precision": np.where(predicted > 0, hit / predicted, 0.0),
            "f1": 2 * hit / (true + predicted),
        }
    total = true.sum()
    result: dict[str, Any] = {
        f"mean_{name}": float(values[present].mean()) if present.any() else None for name, values in figures.items()
    }
    result["pixel_accuracy"] = float(hit.sum() / total) if total else None
    result["labelled_pixels"] = int(total)
    result["not_predicted"] = float(matrix[:, -1].sum() / total) if total else None
    result["classes"] = {
        name: {
            "labelled_pixels": int(true[i]),
            **{figure: float(values[i]) if present[i] else None for figure, values in figures.items()},
        }
        for i, name in enumerate(names)
        if classes is None or name in classes
    }
    return result


def bach_score(prediction: np.ndarray, truth: np.ndarray, grades: int = 4) -> float:
    """The Score of the BACH challenge, pooled over all pixels: 1 less the distances of predicted grades from true ones,
    as a share of the largest there could be where either is not normal.

    Args:
        prediction, truth: grades from 0, normal, to ``grades - 1``, invasive, of the same shape.
        grades: how many.

    Raises:
        ValueError: the shapes differ, or a grade is none of these.

    Source: Li et al. 2020, eqs. 10 and 11; Aresta et al. 2019.
    """
    grade = [np.asarray(grades_of).astype(np.int64) for grades_of in (prediction, truth)]
    if any(part.size and (part.min() < 0 or part.max() >= grades) for part in grade):
        raise ValueError(f"a grade that is none of 0 to {grades - 1}")
    return matrix_bach_score(confusion_matrix(grade[0] + 1, grade[1] + 1, grades))


def matrix_bach_score(matrix: np.ndarray) -> float:
    """:func:`bach_score` from a confusion matrix whose classes are grades in label order. What was not predicted counts
    as far off as can be."""
    grades = len(matrix)
    true, predicted = np.arange(grades)[:, None], np.arange(grades)[None]
    worst = np.maximum(true, grades - 1 - true).repeat(grades + 1, axis=1)
    distance = worst.copy()
    distance[:, :grades] = np.abs(predicted - true)
    # Normal tissue that was found normal does not count.
    possible = worst.copy()
    possible[0, 0] = 0
    total = float((matrix * possible).sum())
    return 1.0 - float((matrix * distance).sum()) / total if total else 1.0


def seam_ratio(labels: np.ndarray, target: int) -> float | None:
    """How blocky a stitched label map is: label changes along the seams of its targets over those elsewhere.

    Args:
        labels: ``(height, width)`` label map of a whole slide, targets from its top left corner.
        target: pixels a side of a target.

    Returns:
        share of neighbouring pixels with different labels across seams, divided by the same away from seams; 1 where
        seams do not show, more where they do. None where no label changes away from seams.
    """
    seams, others = np.zeros(2), np.zeros(2)
    for axis in (0, 1):
        changed = np.diff(labels, axis=axis) != 0
        at_seam = np.arange(1, labels.shape[axis]) % target == 0
        share = changed.mean(axis=1 - axis)
        seams += (share[at_seam].sum(), at_seam.sum())
        others += (share[~at_seam].sum(), (~at_seam).sum())
    if not others[0] or not seams[1]:
        return None
    return float((seams[0] / seams[1]) / (others[0] / others[1]))


def of_batch(engine: Engine, key: str) -> Any:
    """One field of the engine's batch, which MONAI takes apart into a list of items."""
    batch: Any = engine.state.batch
    return batch[key] if isinstance(batch, dict) else [item[key] for item in batch]


def _confusion(scheme: ClassScheme, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return :func:`confusion_matrix` of a batch, on the CPU; pixels are counted where the logits are."""
    prediction, classes = scheme.labels_from_logits(logits).long(), len(scheme)
    truth = labels[:, 0].to(logits.device).long()
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {tuple(prediction.shape)} and truth {tuple(truth.shape)} differ in shape")
    # Row and column 0 are unlabelled pixels, the last ones all labels that the scheme does not have.
    side = classes + 2
    pairs = truth.clamp(max=classes + 1).flatten() * side + prediction.clamp(max=classes + 1).flatten()
    counts = torch.bincount(pairs, minlength=side * side).reshape(side, side).cpu()
    if counts[-1].any() or counts[1:, -1].any():
        raise ValueError(f"a label above {classes}, the number of classes")
    # Pixels without a prediction come last.
    return torch.cat([counts[1:-1, 1:-1], counts[1:-1, :1]], dim=1)


def _batched(part: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """MONAI's engines give lists of items once a batch is taken apart."""
    return part if isinstance(part, torch.Tensor) else torch.stack(list(part))


def check_otsu(otsu: str | None, scheme: ClassScheme) -> None:
    """Raise ValueError for an unknown treatment of targets without tissue, or one that the scheme does not allow."""
    if otsu not in OTSU:
        raise ValueError(f"otsu must be one of {', '.join(map(str, OTSU))}, not {otsu!r}")
    if otsu == "skipped" and scheme.skipped is None:
        raise ValueError('the class scheme names no skipped class, which otsu="skipped" needs')


class MeanIoU(Metric):
    """Mean IoU over the classes that have labelled pixels, from one global confusion matrix summed over batches (and
    processes): the figure that picks the checkpoint (Ho et al. 2021, section 2.5).

    ``update`` takes ``(logits, labels)``: ``(B, C, h, w)`` and ``(B, 1, h, w)``, or lists of both without the batch
    dimension.

    Args:
        scheme: the classes.
        classes: those that count, as in :func:`scores`; all by default.
        output_transform, device: as every ignite metric's.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        classes: Sequence[str] | None = None,
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        self.scheme, self.classes = scheme, classes
        super().__init__(output_transform=output_transform, device=device)

    @reinit__is_reduced
    def reset(self) -> None:
        self._matrix = torch.zeros(len(self.scheme), len(self.scheme) + 1, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels = (_batched(part) for part in output)
        self._matrix += _confusion(self.scheme, logits, labels)

    @sync_all_reduce("_matrix")
    def compute(self) -> float:
        mean = scores(self._matrix.cpu().numpy(), self.scheme.names, self.classes)["mean_iou"]
        return 0.0 if mean is None else mean


class FirstOutput:
    """An ``output_transform``: of networks that are trained by several outputs, the final one and its labels.

    Args:
        scheme: whose channels each output has.
    """

    def __init__(self, scheme: ClassScheme) -> None:
        self.scheme = scheme

    def __call__(self, output: Sequence[dict[str, torch.Tensor]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        channels = self.scheme.num_channels
        return [item["pred"][:channels] for item in output], [item["label"][:1] for item in output]


class MeanLoss(Metric):
    """A loss over all pixels of all batches (and processes), as if they were one batch.

    ``update`` takes ``(logits, labels)`` as :class:`MeanIoU` does.

    Args:
        loss: the loss.
        output_transform, device: as every ignite metric's.
    """

    def __init__(
        self,
        loss: WeightedCrossEntropyLoss,
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        self.loss = loss
        super().__init__(output_transform=output_transform, device=device)

    @reinit__is_reduced
    def reset(self) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels = (_batched(part) for part in output)
        with torch.no_grad():
            self._sums += torch.stack(self.loss.sums(logits, labels)).double().cpu()

    @sync_all_reduce("_sums")
    def compute(self) -> float:
        total, divisor = self._sums.tolist()
        if not divisor:
            raise ValueError("no labelled pixel to take the loss of")
        return total / divisor


class SlideConfusion(Metric):
    """A confusion matrix of each slide.

    The engine's batch holds ``slide`` (its position in the data) and, with ``otsu``, ``tissue`` (whether Otsu's
    threshold finds tissue in the target) of every patch.

    Args:
        scheme: the classes.
        num_slides: how many slides the data has.
        otsu: targets without tissue: None scores them like the others, ``"skipped"`` as the scheme's ``skipped`` class,
            which they get when they are not predicted, ``"exclude"`` leaves them out.
        output_transform: of the engine's output, to logits ``(B, C, h, w)`` and labels ``(B, 1, h, w)``.

    Raises:
        ValueError: an unknown ``otsu``, or a scheme without a skipped class for it.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        num_slides: int,
        otsu: str | None = None,
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        check_otsu(otsu, scheme)
        self.scheme, self.num_slides, self.otsu = scheme, num_slides, otsu
        super().__init__(output_transform=output_transform, device=device)

    def iteration_completed(self, engine: Engine) -> None:
        """Called by the engine after every batch."""
        tissue = of_batch(engine, "tissue") if self.otsu is not None else None
        self.update((*self._output_transform(engine.state.output), of_batch(engine, "slide"), tissue))

    @reinit__is_reduced
    def reset(self) -> None:
        classes = len(self.scheme)
        self._matrices = torch.zeros(self.num_slides, classes, classes + 1, dtype=torch.int64)
        self._excluded = torch.zeros(self.num_slides, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels = (_batched(part) for part in output[:2])
        slides, tissue = output[2:]
        for item, slide in enumerate(int(number) for number in slides):
            one = slice(item, item + 1)
            if tissue is None or bool(tissue[item]):
                self._matrices[slide] += _confusion(self.scheme, logits[one], labels[one])
            elif self.otsu == "exclude":
                self._excluded[slide] += int((labels[item] > 0).sum())
            else:
                assert self.scheme.skipped is not None
                truth = labels[item].cpu().numpy()
                as_skipped = np.full(truth.shape, self.scheme.skipped.label)
                self._matrices[slide] += torch.from_numpy(confusion_matrix(as_skipped, truth, len(self.scheme)))

    @sync_all_reduce("_matrices", "_excluded")
    def compute(self) -> tuple[np.ndarray, np.ndarray]:
        """``(slides, classes, classes + 1)`` pixels, and ``(slides,)`` labelled pixels left out."""
        return self._matrices.cpu().numpy(), self._excluded.cpu().numpy()


class ContextReliance(Metric):
    """The mean IoU lost when views of the patch come from elsewhere on the slide.

    ``compute`` gives ``{"view 2": lost, "view 3": lost, "views 2+3": lost}``: each view but the finest alone, and
    all of them together; with ``centre`` also ``"ring"``: what the finest view shows around the target. A network that
    loses nothing does not use its context, whatever its architecture says.

    Args:
        scheme: the classes.
        network: from image to logits; runs once more for every entry of the result.
        num_views: how many views a patch has.
        centre: pixels a side of the finest view's centre that is the target, where the view is wider.
        key: of the engine's batch: the patches around other centres of the same slides, ``(B, 3·S, H, W)``.
        classes: those that the mean counts; all by default.
        output_transform: of the engine's output, to logits ``(B, C, h, w)``, labels ``(B, 1, h, w)`` and image.
    """

    def __init__(
        self,
        scheme: ClassScheme,
        network: Callable[[torch.Tensor], torch.Tensor],
        num_views: int,
        centre: int | None = None,
        key: str = "elsewhere",
        classes: Sequence[str] | None = None,
        output_transform: Callable = lambda output: output,
        device: str | torch.device = "cpu",
    ) -> None:
        self.scheme, self.network, self.key, self.classes = scheme, network, key, classes
        coarse = list(range(1, num_views))
        self.replaced = [(view,) for view in coarse] + ([tuple(coarse)] if len(coarse) > 1 else [])
        self.centre = centre
        super().__init__(output_transform=output_transform, device=device)

    def iteration_completed(self, engine: Engine) -> None:
        """Called by the engine after every batch."""
        network = getattr(engine, "network", None)
        # MONAI's evaluators leave evaluation mode after each forward pass: batch normalisation would be by this batch,
        # and would learn from it.
        with eval_mode(*([] if network is None else [network])):
            self.update((*self._output_transform(engine.state.output), of_batch(engine, self.key)))

    @reinit__is_reduced
    def reset(self) -> None:
        classes = len(self.scheme)
        count = 1 + len(self.replaced) + (self.centre is not None)
        self._matrices = torch.zeros(count, classes, classes + 1, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels, image, elsewhere = (_batched(part) for part in output)
        elsewhere = elsewhere.to(image.device)
        self._matrices[0] += _confusion(self.scheme, logits, labels)
        for index, mixed in enumerate(self._mixed(image, elsewhere)):
            with torch.no_grad():
                self._matrices[index + 1] += _confusion(self.scheme, self.network(mixed), labels)

    def _mixed(self, image: torch.Tensor, elsewhere: torch.Tensor) -> Iterator[torch.Tensor]:
        """The patches with each part replaced in turn, in the order of the result."""
        for views in self.replaced:
            mixed = image.clone()
            for view in views:
                mixed[:, 3 * view : 3 * view + 3] = elsewhere[:, 3 * view : 3 * view + 3]
            yield mixed
        if self.centre is not None:
            top, left = ((side - self.centre) // 2 for side in image.shape[2:])
            target = (slice(None), slice(0, 3), slice(top, top + self.centre), slice(left, left + self.centre))
            mixed = image.clone()
            mixed[:, :3] = elsewhere[:, :3]
            mixed[target] = image[target]
            yield mixed

    @sync_all_reduce("_matrices")
    def compute(self) -> dict[str, float]:
        means = [
            scores(matrix.cpu().numpy(), self.scheme.names, self.classes)["mean_iou"] or 0.0
            for matrix in self._matrices
        ]
        names = [
            ("view " if len(views) == 1 else "views ") + "+".join(str(view + 1) for view in views)
            for views in self.replaced
        ]
        names += ["ring"] if self.centre is not None else []
        return {name: means[0] - mean for name, mean in zip(names, means[1:], strict=True)}
