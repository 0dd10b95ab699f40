"""The sweep over the families of timm: what it has, and a handful of its runs."""

from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
from factories import make_record

from paibench.benchmark.execution.attempt import Failed, attempt
from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.benchmark.sweeps.sweep import read

SCRIPT = Path(__file__).parents[2] / "sweeps" / "timm_families.py"
METHODS = {"snip", "grasp", "synflow", "magnitude", "edge_popup", "gem_miner"}


@cache
def script() -> ModuleType:
    spec = spec_from_file_location("timm_families", SCRIPT)
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_family_is_in_the_sweep() -> None:
    """The sweep has each of the six methods on one network of every family of this timm."""
    specs = read(script().SWEEP).specs
    networks = {spec.model.name.removeprefix("timm:") for spec in specs}
    families = {family: set(timm.list_models(module=family)) for family in timm.list_modules()}
    assert all(len(names & networks) == 1 for names in families.values())
    assert len(networks) == len(families)
    runs = {(spec.model.name, spec.method.name) for spec in specs}
    assert len(runs) == len(specs) == len(networks) * len(METHODS)
    assert {method for _, method in runs} == METHODS


@pytest.mark.slow
def test_the_smallest_of_a_family() -> None:
    """It is the network with the fewest parameters."""
    assert script().smallest("nfnet") == "test_nfnet"
    assert script().smallest("levit") == "levit_128s"


def test_the_table_says_why(store: Store) -> None:
    """A run that diverged in its search has no counts; a run that is missing is named too."""
    own = [spec for spec in read(script().SWEEP).specs if spec.model.name == "timm:test_vit"]
    reason = "the loss was not finite at step 1"
    lost: dict[str, Any] = {
        "status": "diverged",
        "reason": reason,
        "prunable": None,
        "parameters": None,
    }
    done: dict[str, Any] = {"parameters": 100_400}
    for spec, fields in zip(own, (done, lost), strict=False):
        asked = {name: getattr(spec, name) for name in type(spec).model_fields}
        store.publish_record(spec.key, make_record(**asked).plain() | fields, new_attempt_id())
    (row,) = [row for row in script().rows(store.root) if row.network == "`test_vit`"]
    methods = [f"`{spec.method.name}`" for spec in own]
    assert (row.done, row.prunable) == (methods[0], "50.0%")
    assert row.refused == f"{methods[1]}: {reason}; {', '.join(methods[2:])}: not run yet"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "refused"),
    [
        ("test_resnet", {}),
        ("test_vit", {}),
        ("gmlp_ti16_224", {}),
        ("mobilenetv3_small_050", {}),
        ("xcit_nano_12_p8_224", {}),
        ("iformer_t", {"synflow": "the network has no synaptic flow"}),
        ("test_nfnet", dict.fromkeys(METHODS, "model timm:test_nfnet: stem.conv1 (ScaledStdCo")),
    ],
)
def test_a_family(network: str, refused: dict[str, str], tmp_path: Path) -> None:
    """Every run is done, or refused in one line for the reason that is known; the table says so."""
    script().write_images(tmp_path)
    store = Store.open(tmp_path / "store")
    for spec in read(script().SWEEP).specs:
        if spec.model.name != f"timm:{network}":
            continue
        method = spec.method.name
        try:
            attempt(spec, store, RunSettings(data=tmp_path))
        except Failed as error:
            assert error.cause == "input"
            assert str(error).startswith(refused[method])
        else:
            assert method not in refused
            record = store.read_record(spec.key)
            assert record["kept"] == round(0.1 * record["prunable"])
    (row,) = [row for row in script().rows(store.root) if row.network == f"`{network}`"]
    done = METHODS - refused.keys()
    assert row.done in ("all", "none") or set(row.done.replace("`", "").split(", ")) == done
    assert (row.done == "all") == (not refused)
    assert (row.done == "none") == (not done)
    assert "not run yet" not in row.refused
