"""A data set: balanced cuts, moments, fingerprints, and what a task cannot reach."""

import gc
import math
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paibench.benchmark.data.dataset import (
    DataSet,
    DataSplit,
    balanced,
    check_dataset,
    fingerprint,
    load,
    moments,
)
from paibench.methods.core.random_streams import generator
from paibench.methods.core.registry import UserError
from paibench.methods.core.task import Task
from paibench.methods.training.data import Images
from paibench.methods.training.recipe import Recipe


def toy(train: int = 40, test: int = 12, classes: int = 4) -> DataSet:
    """Images whose single pixel is their own number, so that each can be told from the others."""

    def images(first: int, count: int) -> Images:
        pixels = torch.arange(first, first + count, dtype=torch.uint8).view(count, 1, 1, 1)
        return Images(pixels, torch.arange(count) % classes, classes, (0.5,), (0.25,))

    return DataSet("toy", images(0, train), images(train, test), "0" * 64)


def numbers(part: DataSplit) -> list[int]:
    assert isinstance(part, Images)
    return [int(pixel) for pixel in part.pixels.flatten()]


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 9))
def test_balanced_is_a_permutation_that_depends_on_the_generator_alone(
    labels: list[int], seed: int
) -> None:
    """A balanced order holds every index once, and the same generator gives it again."""
    once, again = (balanced(torch.tensor(labels), generator(seed)) for _ in range(2))
    assert sorted(once.tolist()) == list(range(len(labels)))
    assert once.tolist() == again.tolist()


@pytest.mark.parametrize("count", range(1, 41))
def test_every_beginning_of_a_balanced_order_is_balanced(count: int) -> None:
    """Of equally large classes, none is ahead of another by more than one."""
    labels = torch.arange(40) % 4
    counts = labels[balanced(labels, generator(3))[:count]].bincount(minlength=4)
    assert int(counts.max() - counts.min()) <= 1


def test_a_balanced_order_keeps_proportions() -> None:
    """Half of a set with 30 and 10 of its classes has 15 and 5 of them."""
    labels = torch.tensor([0] * 30 + [1] * 10)
    assert labels[balanced(labels, generator(0))[:20]].bincount().tolist() == [15, 5]


SIZES = st.lists(st.integers(1, 70), min_size=2, max_size=6)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 9))
def test_both_ends_of_a_balanced_order_have_every_class(sizes: list[int], seed: int) -> None:
    """The first images are one of each class, and so are the last of classes with two or more."""
    labels = torch.repeat_interleave(torch.tensor(sizes))
    order = labels[balanced(labels, generator(seed))]
    assert sorted(order[: len(sizes)].tolist()) == list(range(len(sizes)))
    common = [label for label, size in enumerate(sizes) if size > 1]
    assert sorted(order[len(order) - len(common) :].tolist()) == common


@settings(derandomize=True, max_examples=30, deadline=None)
@given(st.lists(st.integers(20, 59), min_size=2, max_size=5), st.integers(0, 9))
def test_the_order_of_classes_of_like_sizes_follows_their_proportions_alone(
    sizes: list[int], seed: int
) -> None:
    """Below a ratio of 3, the plain proportions already put every class at both ends."""
    labels = torch.repeat_interleave(torch.tensor(sizes))
    drawn = torch.randperm(len(labels), generator=generator(seed))
    members = [drawn[labels[drawn] == label] for label in range(len(sizes))]
    places = torch.cat([(torch.arange(size) + 0.5) / size for size in sizes])
    plain = torch.cat(members)[places.argsort(stable=True)]
    assert balanced(labels, generator(seed)).tolist() == plain.tolist()


def unequal(sizes: list[int]) -> DataSet:
    """A set with classes of these sizes, and one test image of each."""

    def images(labels: Tensor) -> Images:
        pixels = torch.arange(len(labels)).to(torch.uint8).view(-1, 1, 1, 1)
        return Images(pixels, labels, len(sizes), (0.5,), (0.25,))

    train = images(torch.repeat_interleave(torch.tensor(sizes)))
    names = tuple("abcdef"[: len(sizes)])
    return DataSet("toy", train, images(torch.arange(len(sizes))), "0" * 64, class_names=names)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(SIZES, st.integers(0, 400) | st.none(), st.floats(0, 1, exclude_max=True), st.integers(0, 9))
def test_every_class_is_on_each_side_or_the_cut_is_refused(
    sizes: list[int], examples: int | None, validation: float, seed: int
) -> None:
    """No cut loses a class, however rare; a refusal is one line about the data."""
    data = unequal(sizes)
    try:
        cut = data.subset(examples=examples, validation=validation, seed=seed)
    except UserError as error:
        assert re.search("is out of range|has 1 training image, and validation needs", str(error))
        return
    for part in (cut.train, cut.test):
        assert int(part.labels.bincount(minlength=len(sizes)).min()) >= 1


def test_a_rare_class_stays_in_a_subset() -> None:
    """Of 60 and 1 training images, 30 are 29 and 1."""
    cut = unequal([60, 1]).subset(examples=30, validation=0, seed=0)
    assert cut.train.labels.bincount().tolist() == [29, 1]


def test_a_class_with_one_image_cannot_be_held_out() -> None:
    """The line names the class and its count; with two images, one is on each side."""
    says = "toy: class 'b' has 1 training image, and validation needs two of each class: one to"
    with pytest.raises(UserError, match=says):
        unequal([60, 1]).subset(examples=None, validation=0.5, seed=0)
    cut = unequal([60, 2]).subset(examples=None, validation=0.5, seed=0)
    assert [part.labels.bincount().tolist() for part in (cut.train, cut.test)] == [[30, 1]] * 2


def test_examples_is_one_subset_for_all_seeds_and_a_larger_one_holds_it() -> None:
    """A cut depends on its size alone, keeps the order, and leaves the test set as it is."""
    small, again = (toy().subset(examples=8, validation=0, seed=seed) for seed in (0, 1))
    large = toy().subset(examples=20, validation=0, seed=0)
    assert numbers(small.train) == numbers(again.train) == sorted(numbers(small.train))
    assert small.train.labels.bincount().tolist() == [2, 2, 2, 2]
    assert set(numbers(small.train)) < set(numbers(large.train))
    assert (small.name, small.evaluation, len(small.test)) == ("toy-8", "test", 12)
    assert small.fingerprint == toy().fingerprint


def test_validation_takes_the_place_of_the_test_set() -> None:
    """The held-out images and the rest are the training set, balanced; no test image is there."""
    cut = toy().subset(examples=None, validation=0.2, seed=5)
    assert (cut.name, cut.evaluation) == ("toy-validation-0.2", "validation")
    assert (len(cut.train), len(cut.test)) == (32, 8)
    assert sorted(numbers(cut.train) + numbers(cut.test)) == list(range(40))
    assert cut.test.labels.bincount().tolist() == [2, 2, 2, 2]


def test_validation_is_drawn_by_the_seed() -> None:
    """Equal seeds hold out equal images, other seeds others."""
    drawn = [toy().subset(examples=None, validation=0.2, seed=seed).test for seed in (5, 5, 6)]
    assert numbers(drawn[0]) == numbers(drawn[1]) != numbers(drawn[2])


@pytest.mark.parametrize(
    "examples, validation, says",
    [
        (0, 0.0, "examples = 0 is out of range; it has 40 training examples of 4 classes"),
        (3, 0.0, "examples = 3 is out of range"),
        (41, 0.0, "examples = 41 is out of range"),
        (-1, 0.0, "examples = -1 is out of range"),
        (None, 1.0, "validation = 1.0 is out of range"),
        (None, -0.1, "validation = -0.1 is out of range"),
        (None, math.nan, "validation = nan is out of range"),
        (None, math.inf, "validation = inf is out of range"),
        (None, 0.01, "validation = 0.01 is out of range"),
        (None, 0.99, "validation = 0.99 is out of range"),
    ],
)
def test_cuts_out_of_range_are_refused(examples: int | None, validation: float, says: str) -> None:
    """A cut that leaves a class without an example on either side names itself and the range."""
    with pytest.raises(UserError) as caught:
        toy().subset(examples=examples, validation=validation, seed=0)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_moments_are_those_of_the_pixels_and_no_order_changes_a_bit() -> None:
    """Mean and standard deviation agree with NumPy's in float64 and do not depend on the order."""
    pixels = torch.randint(0, 256, (50, 3, 4, 5), generator=generator(1)).to(torch.uint8)
    means, stds = moments(pixels)
    scaled = pixels.numpy().astype(np.float64) / 255
    assert means == pytest.approx(scaled.mean((0, 2, 3)), rel=1e-12)
    assert stds == pytest.approx(scaled.std((0, 2, 3)), rel=1e-12)
    assert moments(pixels.flip(0, 3)) == (means, stds)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.integers(0, 255), st.integers(1, 300))
def test_a_constant_channel_is_divided_by_one(value: int, count: int) -> None:
    """However its sum is rounded, a channel of equal pixels has the standard deviation 1."""
    [mean], [std] = moments(torch.full((count, 1, 1, 1), value, dtype=torch.uint8))
    assert mean == pytest.approx(value / 255) and std == 1.0


@pytest.mark.parametrize(
    "options", [{}, {"examples": 8}, {"validation": 0.2}, {"examples": 20, "validation": 0.5}]
)
def test_only_images_that_are_trained_on_normalise(options: dict[str, Any]) -> None:
    """Mean and deviation are those of the training images of the run, in both splits."""
    data = toy().subset(**{"examples": None, "validation": 0.0, "seed": 3} | options).normalised()
    scaled = np.array(numbers(data.train)) / 255
    assert data.train.mean == data.test.mean == pytest.approx([scaled.mean()])
    assert data.train.std == data.test.std == pytest.approx([scaled.std()])


def test_a_fingerprint_tells_values_shapes_types_and_order_apart() -> None:
    """Each of five lists of tensors with the same bytes or nearly so has its own fingerprint."""
    a, b = torch.zeros(4, dtype=torch.uint8), torch.ones(4, dtype=torch.uint8)
    lists = [(a,), (a.view(2, 2),), (a.to(torch.int8),), (a, b), (b, a)]
    assert len({fingerprint(*tensors) for tensors in lists}) == 5
    assert fingerprint(a, b) == fingerprint(a.clone(), torch.stack([b, b], 1)[:, 0])


def test_load_finds_a_set_by_name_and_moves_it() -> None:
    """`load` gives the named set with its options, on the device that was asked for."""
    data = load("digits", {"examples": 100}, None, "meta", 0)
    assert (data.name, data.classes, data.shape) == ("digits-100", 10, (1, 8, 8))
    assert {data.train.labels.device.type, data.test.labels.device.type} == {"meta"}


def test_load_knows_the_nearest_name() -> None:
    """An unknown data set is answered with the one that may have been meant."""
    with pytest.raises(UserError, match="unknown data set 'digit'; did you mean digits"):
        load("digit", {}, None, "cpu", 0)


def reachable(start: object) -> Iterator[Tensor]:
    """Every tensor that can be reached from an object without importing anything."""
    seen: set[int] = set()
    queue = [start]
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, type | types.ModuleType | types.CodeType):
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            yield thing
        if isinstance(thing, types.FunctionType):  # but not the globals of its module
            queue += [thing.__closure__, thing.__defaults__, thing.__kwdefaults__, thing.__dict__]
        else:
            queue += gc.get_referents(thing)


def leaks(task: Task, secret: Images) -> bool:
    """Whether a task leads to test pixels or labels, or to memory that they lie in."""
    hidden = (secret.pixels, secret.labels)
    places = {tensor.untyped_storage().data_ptr() for tensor in hidden}
    found = list(reachable(task))
    assert found, "the walk must at least come by the training data"
    return any(
        tensor.untyped_storage().data_ptr() in places
        or tensor.untyped_storage().nbytes() != tensor.nbytes  # more lies there than is shown
        or any(tensor.shape == other.shape and torch.equal(tensor, other) for other in hidden)
        for tensor in found
    )


@pytest.mark.parametrize("options", [{}, {"examples": 100}, {"validation": 0.2}], ids=str)
def test_a_task_does_not_lead_to_what_is_evaluated(options: dict[str, int | float]) -> None:
    """From a task of the training split, no path of references leads to the evaluated split."""
    data = load("digits", options, None, "cpu", 0)
    secret = data.test
    assert isinstance(secret, Images)
    assert not leaks(Task(data.train, seed=0, recipe=Recipe(epochs=1)), secret)


@pytest.mark.parametrize(
    "hide",
    [
        lambda data: lambda name, compute: data.test,
        lambda data: [data].append,
        lambda data: {"deep": [(data.test.labels.view(-1),)]},
        lambda data: data.test.pixels[:1],
        lambda data: data.test.labels.clone(),
    ],
    ids=["closure", "bound method", "container", "view", "copy"],
)
def test_the_walk_would_find_a_leak(hide: Callable[[DataSet], Any]) -> None:
    """The walk behind the test above finds test data however it hangs on a task."""
    data = load("digits", {}, None, "cpu", 0)
    secret = data.test
    assert isinstance(secret, Images)
    assert leaks(Task(data.train, seed=0, recipe=Recipe(epochs=1), services=hide(data)), secret)


@dataclass(frozen=True)
class Wrapped:
    """A split of a third party's own type, around images."""

    images: Images
    dtype: torch.dtype = torch.float32

    def __getattr__(self, name: str) -> Any:
        return getattr(self.images, name)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, *args: Any, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, labels in self.images.batches(*args, **options):
            yield inputs.to(self.dtype), labels


def test_a_sound_data_set_passes_as_it_is() -> None:
    """Bytes, floats and splits of other types are returned unchanged."""
    bytes_ = toy()
    for part in (
        bytes_,
        changed(bytes_, pixels=torch.rand(40, 1, 1, 1)),
        replace(bytes_, train=Wrapped(bytes_.train), test=Wrapped(bytes_.test)),  # type: ignore[arg-type]
        replace(bytes_, name="Übung 2024 (v1.5), [x]"),
    ):
        assert check_dataset("toy", part) is part


def changed(data: DataSet, side: str = "train", **fields: object) -> DataSet:
    return replace(data, **{side: replace(getattr(data, side), **fields)})


ONES = torch.ones(40, 1, 1, 1)


@pytest.mark.parametrize(
    "harm, says",
    [
        (lambda data: None, "its loader returns NoneType, not a DataSet"),
        (lambda data: (data.train, data.test), "its loader returns tuple, not a DataSet"),
        (lambda data: replace(data, name="Bad Name/../x"), "the name 'Bad Name/../x' cannot be"),
        (lambda data: replace(data, name="a\x1b[2J"), "the name 'a\\x1b[2J' cannot be used; use"),
        (lambda data: replace(data, name=""), "the name '' cannot be used"),
        (lambda data: replace(data, name=None), "the name None cannot be used"),
        (lambda data: replace(data, name="u\u0308"), "cannot be used"),
        (lambda data: replace(data, fingerprint="1"), "the fingerprint '1' is not a sha256"),
        (lambda data: replace(data, evaluation="all"), "evaluation is 'all', not 'test' or"),
        (lambda data: replace(data, test=[1]), "test is a list without classes; return Images"),
        (lambda data: changed(data, classes=1), "train has classes = 1; a network needs 2 or more"),
        (lambda data: changed(data, classes=4.0), "train has classes = 4.0; a network needs 2"),
        (lambda data: changed(data, classes=3), "train has labels from 0 to 3, not 0 to 2"),
        (lambda data: changed(data, classes=5), "class 4 has no example in train; every"),
        (lambda data: changed(data, labels=ONES), "the labels of train are float32 [40, 1, 1, 1]"),
        (lambda data: changed(data, labels=[0, 1]), "the labels of train are a list, not int64"),
        (lambda data: changed(data, "test", labels=ONES.long()[:0, 0, 0, 0]), "test has no images"),
        (lambda data: changed(data, pixels=ONES[:39]), "train has 39 images and 40 labels"),
        (lambda data: changed(data, pixels=ONES[:, 0]), "are float32 [40, 1, 1], not [n, c, h, w]"),
        (
            lambda data: changed(data, pixels=[1]),
            "the pixels of train are a list, not [n",
        ),
        (lambda data: changed(data, pixels=ONES.double()), "are float64 [40, 1, 1, 1], not uint8"),
        (lambda data: changed(data, pixels=ONES.long()), "are int64 [40, 1, 1, 1], not uint8 or"),
        (lambda data: changed(data, pixels=ONES / 0), "the pixels of train are not all finite"),
        (lambda data: changed(data, pixels=ONES), "all training images have one and the same"),
        (lambda data: changed(data, std=(0.0,)), "std of channel 0 in train is 0.0; give 1.0 for"),
        (lambda data: changed(data, std=(-0.5,)), "std of channel 0 in train is -0.5"),
        (lambda data: changed(data, std=(math.nan,)), "std of channel 0 in train is nan"),
        (lambda data: changed(data, std=(math.inf,)), "std of channel 0 in train is inf"),
        (lambda data: changed(data, mean=(math.nan,)), "mean of channel 0 in train is nan"),
        (lambda data: changed(data, mean=("0",)), "mean of channel 0 in train is '0'"),
        (
            lambda data: changed(data, std=(1.0, 1.0)),
            "std of train is (1.0, 1.0), not a number",
        ),
        (
            lambda data: changed(data, mean=0.5),
            "mean of train is 0.5, not a number for each",
        ),
        (lambda data: changed(data, mean=(0.25,)), "mean is (0.25,) in train and (0.5,) in test"),
        (
            lambda data: changed(data, "test", pixels=torch.rand(12, 1, 2, 2)),
            "shape is (1, 1, 1) in train and (1, 2, 2) in test",
        ),
        (
            lambda data: replace(data, test=Wrapped(data.test, torch.float64)),
            "a batch of test is float64 [1, 1, 1, 1], not float32 [1, 1, 1, 1]",
        ),
    ],
)
def test_a_data_set_that_a_run_cannot_use_is_refused(
    harm: Callable[[DataSet], object], says: str
) -> None:
    """Whatever a loader makes wrong is named in one line, with the data set and the split."""
    with pytest.raises(UserError) as caught:
        check_dataset("toy", harm(toy()))
    assert str(caught.value).startswith("data set toy: ") and says in str(caught.value)
    assert str(caught.value).isprintable()
