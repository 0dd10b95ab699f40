"""The fault of a plugin is reported by its kind, name and distribution, and never of another."""

import os

import pytest
from factories import PLUGINS, installed, spec_of

from paibench.benchmark.execution.attempt import Failed, attempt
from paibench.benchmark.store.store import Store

pytestmark = pytest.mark.usefixtures("parts")


FAULTS = {
    "none_of_it": "its loader returns NoneType, not a DataSet",
    "raises_value": "ValueError: no such shard",
    "leaves_loading": "SystemExit: enough",
    "bad_name": r"the name 'Bad Name/../x\n' cannot be used",
    "wrong_pixels": "",
    "wrong_labels": "toy: the labels of train are",
    "arrays": "",
    "raises_in_batches": "KeyError: 'shard 3'",
    "missing": "AttributeError: module 'parts_datasets' has no attribute 'no_such_set'",
}


@pytest.mark.parametrize(("dataset", "said"), FAULTS.items(), ids=FAULTS.keys())
@pytest.mark.parametrize("method", ["random", "snip"])
def test_faults_of_a_data_set(store: Store, method: str, dataset: str, said: str) -> None:
    """A data set that is unfit or raises, at loading or in a batch, is named in one line."""
    with pytest.raises(Failed) as caught:
        attempt(spec_of(method, dataset=dataset), store)
    assert caught.value.cause == "plugin"
    assert str(caught.value).startswith(f"data set {dataset} (parts 1.0): {said}")
    assert "\n" not in str(caught.value)


def test_sound_parts_are_not_blamed(store: Store) -> None:
    """A method that fails by itself on a stranger's network is the one that is named."""
    with installed("hostile") as patch:
        folders = (str(PLUGINS / folder) for folder in ("hostile", "parts"))
        patch.setenv("PYTHONPATH", os.pathsep.join(folders))
        patch.syspath_prepend(str(PLUGINS / "parts"))
        with pytest.raises(Failed) as caught:
            attempt(spec_of("raises", model="sound"), store)
    assert caught.value.cause == "plugin"
    assert str(caught.value).startswith("raises (hostile 1.0): ")
