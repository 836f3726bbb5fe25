"""Train and evaluate networks."""

from __future__ import annotations

from typing import Any

from .values import listed


def train(
    datalist: str,
    bundle: str = "dmmn",
    config: str | tuple[str, ...] = (),
    output: str = "output/training",
    **settings: Any,
) -> None:
    """Train a bundle's network on a datalist; the best checkpoint by validation mean IoU is OUTPUT/model.pt.

    The bundle's own settings are the paper's, which take days on a GPU. Begin with --config small.yaml: a narrow
    network, an hour on two CPU cores. Rerun the same command to resume a training after its last finished epoch.

    Args:
        datalist: slides and annotations; "datalist folder" writes one.
        bundle: a bundle's name (dmmn, mrn, ...) or folder.
        config: overlays, separated by commas: names in the bundle's configs, such as small.yaml, or paths.
        output: folder for the checkpoint, curves and settings.
        settings: keys of the bundle's train.yaml, such as --epochs 10, --batch_size 4.
    """
    from ..bundle.job import run_training

    run_training(datalist, bundle, listed(config), output, settings)


def evaluate(
    datalist: str,
    checkpoint: str,
    bundle: str | None = None,
    config: str | tuple[str, ...] = (),
    output: str = "output/evaluation",
    **settings: Any,
) -> None:
    """Score a checkpoint on the annotated pixels of a datalist's testing section.

    Writes scores per class, slide and group, a confusion matrix, and how much the network relies on its context.

    Args:
        datalist: slides and annotations.
        checkpoint: the weights, as training writes them.
        bundle: a bundle's name (dmmn, mrn, ...) or folder; by default the one that the checkpoint was trained with.
        config: overlays, separated by commas; by default those that the checkpoint was trained with.
        output: folder for the scores.
        settings: keys of the bundle's evaluate.yaml and train.yaml, such as --section validation.
    """
    from ..bundle.job import run_evaluation

    run_evaluation(datalist, checkpoint, bundle, listed(config), output, settings)
