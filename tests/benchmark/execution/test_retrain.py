"""A run that is trained again from its mask alone gives the same record."""

from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.execution.attempt import attempt
from paibench.benchmark.execution.verify import retrain
from paibench.benchmark.record import VOLATILE, Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.store import Store
from paibench.methods.core.mask import Mask
from paibench.methods.core.mask_file import from_bytes
from paibench.methods.core.registry import UserError

BASE = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke", "density": 0.1}


def made(folder: Path, **fields: Any) -> tuple[Record, Mask]:
    spec, store = Spec.of(**BASE | fields), Store.open(folder / "store")
    attempt(spec, store)
    record = Record.read(store.read_record(spec.key))
    assert record.mask_file is not None
    return record, from_bytes(store.read_file(spec.key, record.mask_file))


@pytest.mark.parametrize("control", ["none", "shuffle", "reinit", "invert"])
def test_the_record_is_the_same(tmp_path: Path, control: str) -> None:
    """All fields except times and environment are equal, with each control."""
    record, mask = made(tmp_path, method="snip", control=control)
    again = retrain(record, mask)
    assert again.stable() == record.stable()
    assert again.plain().keys() - again.stable().keys() == set(VOLATILE)


def test_the_method_need_not_be_installed(tmp_path: Path) -> None:
    """The environment of an unknown method is copied from its record."""
    record, mask = made(tmp_path, method="magnitude")
    spec = Spec.model_validate(record.spec | {"method": "theirs"})
    plugin = {"plugin": "theirs", "plugin_version": "1", "isolation": "walls"}
    theirs = record.model_copy(
        update={
            "key": spec.key,
            "spec": spec.canonical,
            "environment": record.environment.model_copy(update=plugin),
        }
    )
    again = retrain(theirs, mask)
    assert again.stable() == theirs.stable()
    assert {name: getattr(again.environment, name) for name in plugin} == plugin


def test_another_mask(tmp_path: Path) -> None:
    """Another mask gives another sha256 and other trained weights."""
    record, _ = made(tmp_path, method="snip")
    _, mask = made(tmp_path, method="random")
    again = retrain(record, mask)
    assert again.mask_sha256 != record.mask_sha256
    assert again.trained_sha256 != record.trained_sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at_initialization": False}, "is not enough to train it again"),
        ({"at_initialization": None}, "is not enough to train it again"),
        ({"epochs_trained": 99.0}, "says that it trained 99.0 epochs"),
        ({"spec": {**BASE, "method": "snip", "dataset": "theirs"}}, "unknown data set"),
        ({"spec": {**BASE, "method": "snip", "model": "conv-2"}}, "not of this network"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_records_that_a_mask_does_not_determine(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """One line says why the mask is not enough, or why it does not fit the network."""
    record, mask = made(tmp_path, method="snip")
    with pytest.raises(UserError, match=message):
        retrain(record.model_copy(update=change), mask)
