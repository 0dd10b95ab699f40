"""PHEW: keep the weights that random walks from inputs to outputs pass; no data are used.

Paper: Patil & Dovrolis, "PHEW: Constructing Sparse Networks that Learn Fast and Generalize Well
without Training Data", ICML 2021.

Walks start in turn at an input and, backwards, at an output. From each unit a walk takes a weight
with a probability proportional to its size among all weights that leave the unit; this is the
paper's choice of a kernel by its L1 norm, and of a weight in it. As in the authors' code, a walk
goes into a random branch of a block, and takes no shortcut that has no layer. Behind a flattened
image it goes on from a random position of its channel.

Counts are exact: the authors keep all of the last walk. If that is too many, we leave it out, and
the largest weights between units on other walks take its place; so every kept weight lies on a path
from an input to an output (as far as padding lets it: in an image of one pixel, only the middle of
a 3x3 kernel is used). Walks that add nothing become frequent at high densities. After four walks
per weight of the network, the largest weights between units on walks fill the rest.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from paibench.methods.core.mask import flatten, num_kept, prunable, unflatten
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores
from paibench.methods.topology.graph import Step, graph_of

MOST_WALKS = 4
"""The number of walks per weight of the network, at most."""
BATCH = 1 << 14
NEVER = torch.iinfo(torch.int64).max


def phew(
    net: nn.Module,
    task: Task,
    density: float,
    *,
    keep: Literal["weight", "kernel"] = "weight",
) -> Scores:
    """Return scores of which the highest are of the first walks.

    Options:
        keep: a walk keeps each weight that it passes (`weight`), or its whole kernel (`kernel`).

    Raises UserError if paths are not defined for an operation of the network, such as attention.
    """
    weights = prunable(net)
    walks = Walks(net, task, kernels=keep == "kernel")
    kept_count = num_kept(density, walks.first.numel())
    while walks.passed() < kept_count and walks.number < MOST_WALKS * walks.first.numel():
        walks.add(min(BATCH, max(64, walks.number)))
    scores = walks.scores(kept_count).to(next(iter(weights.values())).device)
    return Scores(unflatten(scores, weights))


class Walks:
    """Random walks through a network, many at a time.

    `first` has the number of the first walk that passes each weight. Even walks lead from inputs
    to outputs, odd ones back.
    """

    def __init__(self, net: nn.Module, task: Task, *, kernels: bool = False) -> None:
        self._graph = graph_of(net, task.shape).without_shortcuts()
        self._graph.check("phew")
        self._generator = task.generator
        self._kernels = kernels
        self._weights = {name: weight.detach().cpu() for name, weight in prunable(net).items()}
        self._sizes = flatten(self._weights).abs()
        self.first = torch.full_like(self._sizes, NEVER, dtype=torch.int64)
        self._firsts = unflatten(self.first, self._weights)
        self._first_units = [
            torch.full((size,), NEVER, dtype=torch.int64) for size in self._graph.sizes
        ]
        self._layers = {
            step.output: _Layer(self._weights[step.name], step.groups)
            for step in self._graph.steps
            if step.kind == "layer"
        }
        self._leaving: dict[int, list[Step]] = {}
        for step in self._graph.steps:
            for group in step.inputs:
                self._leaving.setdefault(group, []).append(step)
        self.number = 0
        """The number of walks so far."""

    def passed(self) -> int:
        """Return the number of weights that a walk passes."""
        return int((self.first < NEVER).count_nonzero())

    def add(self, count: int) -> None:
        """Walk `count` times from inputs and `count` times from outputs."""
        graph = self._graph
        numbers = self.number + 2 * torch.arange(count)
        start, end = self._start(), graph.output
        self._forward(start, numbers, (numbers // 2) % graph.sizes[start])
        self._backward(end, numbers + 1, (numbers // 2) % graph.sizes[end])
        self.number += 2 * count
        if self._kernels:
            for first in self._firsts.values():
                kernels = first.view(first.shape[0] * first.shape[1], -1)
                kernels.copy_(kernels.amin(1, keepdim=True).expand_as(kernels))

    def scores(self, kept_count: int) -> Tensor:
        """Return one score per weight; the `kept_count` highest are on paths."""
        number = min(kept_count, self.first.numel())
        last = int(self.first.kthvalue(number).values)
        # the last walk counts only if all of it fits
        if int((self.first <= last).count_nonzero()) == kept_count:
            last = min(last + 1, NEVER)
        order = 3 - self.first.clamp(max=self.number).double() / self.number
        between = 1 + self._sizes.double() / (2 * float(self._sizes.max()) or 1.0)
        others = (self.first < NEVER).double() / 2
        whole = self.first < last
        return torch.where(whole, order, torch.where(self._between(last), between, others))

    def _between(self, last: int) -> Tensor:
        """Return which weights lead from a unit on an earlier walk than `last` to another."""
        result = torch.zeros_like(self.first, dtype=torch.bool)
        parts = unflatten(result, self._weights)
        for step in self._graph.steps:
            if step.kind == "layer":
                layer = self._layers[step.output]
                source = (self._first_units[step.inputs[0]] < last)[layer.sources()]
                target = (self._first_units[step.output] < last)[layer.targets()]
                parts[step.name].view(-1).logical_or_(source & target)
        return result

    def _start(self) -> int:
        """Return the group in which walks start: the input, or its features if it is flattened."""
        leaving = self._leaving[0]
        return leaving[0].output if [step.kind for step in leaving] == ["flatten"] else 0

    def _forward(self, start: int, numbers: Tensor, units: Tensor) -> None:
        at = {start: [(numbers, units)]}
        for group in range(start, self._graph.output):
            if group not in at:
                continue
            numbers, units = self._arrive(group, at.pop(group))
            steps = self._leaving[group]
            branch = self._draw(len(units), len(steps))
            for place, step in enumerate(steps):
                here = (branch == place).nonzero().view(-1)
                there = self._step(step, group, numbers[here], units[here])
                at.setdefault(step.output, []).append((numbers[here], there))
        self._arrive(self._graph.output, at.pop(self._graph.output))

    def _step(self, step: Step, group: int, numbers: Tensor, units: Tensor) -> Tensor:
        """Return the units that walks in these units reach by a step."""
        if step.kind == "layer":
            layer = self._layers[step.output]
            taken = layer.leaving(units, self._uniform(len(units)))
            self._pass(step, taken, numbers)
            return layer.targets(taken)
        if step.kind == "flatten":
            return units * step.repeats + self._draw(len(units), step.repeats)
        if step.kind == "cat":
            return units + self._graph.offsets(step)[step.inputs.index(group)]
        return units

    def _backward(self, end: int, numbers: Tensor, units: Tensor) -> None:
        at = {end: [(numbers, units)]}
        for group in range(end, -1, -1):
            if group not in at:
                continue
            numbers, units = self._arrive(group, at.pop(group))
            step = self._graph.producers.get(group)
            if step is None:
                continue
            if step.kind == "layer":
                layer = self._layers[group]
                taken = layer.arriving(units, self._uniform(len(units)))
                self._pass(step, taken, numbers)
                at.setdefault(step.inputs[0], []).append((numbers, layer.sources(taken)))
            elif step.kind == "flatten":
                at.setdefault(step.inputs[0], []).append((numbers, units // step.repeats))
            else:
                for source, here, there in self._back(step, units):
                    at.setdefault(source, []).append((numbers[here], there))

    def _back(self, step: Step, units: Tensor) -> list[tuple[int, Tensor, Tensor]]:
        """Return the walks that go back to each input of a sum, product or concatenation."""
        if step.kind == "cat":
            offsets = torch.tensor(self._graph.offsets(step))
            branch = torch.searchsorted(offsets, units, right=True) - 1
            units = units - offsets[branch]
        else:
            branch = self._draw(len(units), len(step.inputs))
        walks = [(branch == place).nonzero().view(-1) for place in range(len(step.inputs))]
        return [(s, here, units[here]) for s, here in zip(step.inputs, walks, strict=True)]

    def _arrive(self, group: int, walks: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        numbers = torch.cat([each for each, _ in walks])
        units = torch.cat([each for _, each in walks])
        self._first_units[group].scatter_reduce_(0, units, numbers, "amin")
        return numbers, units

    def _pass(self, step: Step, taken: Tensor, numbers: Tensor) -> None:
        self._firsts[step.name].view(-1).scatter_reduce_(0, taken, numbers, "amin")

    def _uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self._generator, dtype=torch.float64)

    def _draw(self, count: int, choices: int) -> Tensor:
        if choices == 1:
            return torch.zeros(count, dtype=torch.int64)
        return torch.randint(choices, (count,), generator=self._generator)


class _Layer:
    """The weights of a layer as edges between units, numbered as in its flattened weight."""

    def __init__(self, weight: Tensor, groups: int) -> None:
        self._row = weight[0].numel()  # the number of edges that arrive at a unit
        self._kernel = weight[0, 0].numel()
        self._units, self._group = weight.shape[1], len(weight) // groups
        self._column = self._group * self._kernel  # the number of edges that leave a unit
        self._edges = torch.arange(weight.numel())
        self._by_source = self.sources().sort(stable=True).indices
        sizes = weight.reshape(-1).double().abs()
        self._sums, self._sums_by_source = _sums(sizes), _sums(sizes[self._by_source])

    def sources(self, edges: Tensor | None = None) -> Tensor:
        """Return the units that edges leave; those of all edges, if none are given."""
        edges = self._edges if edges is None else edges
        group = edges // self._row // self._group
        return group * self._units + edges // self._kernel % self._units

    def targets(self, edges: Tensor | None = None) -> Tensor:
        """Return the units at which edges arrive; those of all edges, if none are given."""
        return (self._edges if edges is None else edges) // self._row

    def leaving(self, units: Tensor, uniform: Tensor) -> Tensor:
        """Return an edge that leaves each unit, drawn in proportion to the sizes of weights."""
        return self._by_source[_drawn(self._sums_by_source, self._column, units, uniform)]

    def arriving(self, units: Tensor, uniform: Tensor) -> Tensor:
        """Return an edge that arrives at each unit, drawn likewise."""
        return _drawn(self._sums, self._row, units, uniform)


def _sums(sizes: Tensor) -> Tensor:
    """Return the sum of all sizes before each edge, and of all."""
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])


def _drawn(sums: Tensor, edges: int, units: Tensor, uniform: Tensor) -> Tensor:
    """Return the position of an edge among the `edges` of each unit; any, if all weights are 0."""
    start = units * edges
    low, high = sums[start], sums[start + edges]
    place = torch.searchsorted(sums, low + uniform * (high - low), right=True) - 1
    equal = start + (uniform * edges).long()
    # rounding can lead to the edge next to the unit's last one
    return torch.where(high > low, place.clamp(start, start + edges - 1), equal)
