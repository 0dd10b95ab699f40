"""Early-Bird tickets: train until the mask of the largest weights no longer changes.

Paper: You et al., "Drawing Early-Bird Tickets: Towards More Efficient Training of Deep Networks",
ICLR 2020.

The dense network is trained as usual. At the start of each epoch the mask of its largest weights is
drawn. A ticket emerges as soon as the last five masks are close to each other: none of the earlier
four is farther than 0.1 from the last one, as a fraction of the weights. It is trained from the
weights at which it emerged, or from initialization.

The paper prunes channels by the scales of batch norms; this is the same rule for single weights.
The masks are compared as in the authors' code, which needs a full queue, so that no ticket emerges
before four epochs are done. If none emerges, the mask at the start of the last epoch is taken, and
the record says so.
"""

import contextlib
from copy import deepcopy
from typing import Annotated, Literal

from torch import Tensor, nn

from paibench.methods.baselines.dense import state_of
from paibench.methods.core.mask import MaskHistory, keep_top, num_kept, prunable, total
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket


def early_bird(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    threshold: Annotated[float, "[0, 1]"] = 0.1,
    masks: Annotated[int, "[2, inf)"] = 5,
    start: Literal["emergence", "initialization"] = "emergence",
) -> Ticket:
    """Return the sizes of the weights when the ticket emerged as scores, and its weights.

    Options:
        threshold: the largest distance of the last mask from the others at which it emerges.
        masks: the number of masks that are compared, the last one included.
        start: train the ticket from the weights at which it emerged, in the rest of the recipe
            (`emergence`), or from initialization, in all of it (`initialization`).

    Raises UserError for options out of range, and Diverged if the training diverges.
    """
    if not 0 <= threshold <= 1 or masks < 2:
        raise UserError(
            f"early_bird: threshold = {threshold!r} must be from 0 to 1, and masks = {masks!r} at "
            "least 2"
        )
    search = _Search(deepcopy(net), task, density, threshold, masks)
    epochs, last = search.train()
    notes = () if last <= threshold else (_missed(threshold, masks, last, epochs),)
    scores = Scores(search.sizes)
    distances = tuple(search.history.distances)
    if start == "initialization":
        return Ticket(scores, distances=distances, notes=notes)
    step = epochs * task.steps_per_epoch
    return Ticket(scores, search.state, start=step, distances=distances, notes=notes)


def _missed(threshold: float, masks: int, last: float, epochs: int) -> str:
    if epochs + 1 < masks:
        return f"no ticket emerged: the recipe is shorter than {masks} epochs"
    return f"no ticket emerged: the last distance was {last:.3g}, not {threshold:g} or less"


class _Emerged(Exception):
    """Ends a training."""


class _Search:
    """A dense training that ends when a ticket emerges, or before its last epoch."""

    def __init__(
        self, net: nn.Module, task: Task, density: float, threshold: float, masks: int
    ) -> None:
        self._net, self._task = net, task
        self._kept = num_kept(density, total(prunable(net)))
        self._threshold, self._masks = threshold, masks
        self.history = MaskHistory()
        self.sizes: dict[str, Tensor] = {}
        self.state: dict[str, Tensor] = {}

    def train(self) -> tuple[int, float]:
        """Return the number of epochs trained, and the largest distance from the last mask.

        The distance is 1 as long as there are too few masks.
        """
        last_epoch = self._task.recipe.epochs - 1
        distance = self._draw()

        def after_epoch(epoch: int) -> None:
            nonlocal distance
            distance = self._draw()
            if distance <= self._threshold:
                raise _Emerged

        stop = last_epoch * self._task.steps_per_epoch
        if stop and distance > self._threshold:
            with contextlib.suppress(_Emerged):
                self._task.fit(self._net, stop=stop, after_epoch=after_epoch)
        return len(self.history.distances) - 1, distance

    def _draw(self) -> float:
        weights = prunable(self._net)
        self.sizes = {name: weight.detach().abs().clone() for name, weight in weights.items()}
        self.state = state_of(self._net)
        mask = keep_top(self.sizes, self._kept, seed=self._task.seed)
        row = self.history.add(mask)
        return max(row[1 - self._masks :]) if len(row) >= self._masks - 1 else 1.0
