"""Reliance of a network on the surroundings of its target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from monai.networks.utils import eval_mode

from ..classes import ClassScheme
from .batch import batch_field, stack_items
from .confusion import batch_confusion
from .segmentation import scores


class ContextReliance(Metric):
    """Loss of mean IoU when views of the patch are taken from another place on the slide.

    ``compute`` returns ``{"view 2": loss, "view 3": loss, "views 2+3": loss}``: each view but the finest alone, and all
    of them together. With ``centre`` it has ``"ring"`` too: the finest view's pixels around the target. A network that
    loses nothing does not use its context, whatever its architecture.

    Args:
        scheme: the classes.
        network: maps images to logits; runs once more for every entry of the result.
        num_views: number of views of a patch.
        centre: pixels a side of the target, if it is the centre of a wider finest view.
        key: key of the patches around other centres of the same slides, ``(B, 3·S, H, W)``, in the engine's batch.
        classes: classes that the mean counts; all by default.
        output_transform: maps the engine's output to logits ``(B, C, h, w)``, labels ``(B, 1, h, w)`` and image.
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
        """Update from the engine's batch; the engine calls this after each one."""
        network = getattr(engine, "network", None)
        # MONAI's evaluators leave evaluation mode after each forward pass: batch normalisation would normalise by this
        # batch, and would learn from it.
        with eval_mode(*([] if network is None else [network])):
            self.update((*self._output_transform(engine.state.output), batch_field(engine, self.key)))

    @reinit__is_reduced
    def reset(self) -> None:
        classes = len(self.scheme)
        count = 1 + len(self.replaced) + (self.centre is not None)
        self._matrices = torch.zeros(count, classes, classes + 1, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Sequence) -> None:
        logits, labels, image, elsewhere = (stack_items(part) for part in output)
        elsewhere = elsewhere.to(image.device)
        self._matrices[0] += batch_confusion(self.scheme, logits, labels)
        for index, mixed in enumerate(self._mixed(image, elsewhere)):
            with torch.no_grad():
                self._matrices[index + 1] += batch_confusion(self.scheme, self.network(mixed), labels)

    def _mixed(self, image: torch.Tensor, elsewhere: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the patches with each part replaced in turn, in the order of the result."""
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
