"""The mask reader of validation agrees with that of torch and trusts no byte."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.leaderboard.submission.checks.files import parse
from paibench.methods.core.mask_file import digest, from_bytes, to_bytes
from paibench.methods.core.registry import UserError

SHAPES = st.lists(st.integers(0, 9), min_size=0, max_size=4)


def drawn(shapes: dict[str, list[int]], seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {n: torch.rand(shape, generator=draw) < 0.3 for n, shape in shapes.items()}


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8), SHAPES, min_size=1, max_size=4), st.integers(0, 99))
def test_the_same_as_torch(shapes: dict[str, list[int]], seed: int) -> None:
    """Digest, shapes and counts of any mask equal those from torch."""
    if "__metadata__" in shapes:
        return
    mask = drawn(shapes, seed)
    found = parse(to_bytes(mask))
    assert found.sha256 == digest(mask)
    assert found.kept == {name: int(kept.sum()) for name, kept in mask.items()}
    assert found.sizes == {name: kept.numel() for name, kept in mask.items()}
    assert found.shapes == {name: tuple(kept.shape) for name, kept in mask.items()}


def test_masks_of_real_runs(made: Path) -> None:
    """Both readers read the masks that real runs wrote."""
    files = sorted(made.rglob("mask-*.safetensors"))
    assert len(files) == 14
    for file in files:
        data = file.read_bytes()
        assert parse(data).sha256 == digest(from_bytes(data))


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(1, 255), st.booleans())
def test_a_damaged_file(place: int, change: int, cut: bool) -> None:
    """Any changed or missing byte gives Corrupt, unless torch's reader gives the same mask."""
    data = bytearray(to_bytes(drawn({"a": [3, 5], "b": [9]}, 1)))
    place %= len(data)
    data[place] ^= change
    damaged = bytes(data[:place] if cut else data)
    try:
        found = parse(damaged)
    except Corrupt:
        return
    assert digest(from_bytes(damaged)) == found.sha256


def packed(about: object, **bits: list[int]) -> bytes:
    arrays = {name: np.array(values, np.uint8) for name, values in bits.items()}
    return save(arrays, metadata={"mask": json.dumps(about)})


def raw(header: object, body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "its header does not end"),
        (b"\xff" * 8, "its header does not end"),
        ((2**62).to_bytes(8, "little") + b"{}", "its header does not end"),
        (raw([]), "no object"),
        (raw({}), "states no shapes"),
        (raw({"__metadata__": {"mask": "[" * 100_000}}), "states no shapes"),
        (raw({"__metadata__": {"mask": '{"shapes":{},"shapes":{}}'}}), "stands in it twice"),
        (packed({"shapes": {"b": [8]}, "sha256": ""}, a=[1]), "other layers"),
        (packed({"shapes": {"a": [9]}, "sha256": ""}, a=[1]), "1 bytes for 9 bits"),
        (packed({"shapes": {"a": [7]}, "sha256": ""}, a=[255]), "beyond its 7 weights"),
        (packed({"shapes": {"a": [8]}, "sha256": ""}, a=[1]), "do not have the sha256"),
        (packed({"shapes": {"a": [-8]}, "sha256": ""}, a=[1]), "a shape that no layer has"),
        (packed({"shapes": {"a": [2**40, 2**40]}, "sha256": ""}, a=[1]), "no layer has"),
        (packed({"shapes": {"a": [1] * 99}, "sha256": ""}, a=[1]), "no layer has"),
        (packed({"shapes": {"a": [True]}, "sha256": ""}, a=[1]), "no layer has"),
    ],
)
def test_a_hostile_file(data: bytes, said: str) -> None:
    """It is refused by what is wrong with it, and torch's reader refuses it too."""
    with pytest.raises(Corrupt, match=said):
        parse(data)


@pytest.mark.parametrize(
    ("places", "body"),
    [([0, 4], b"12"), ([1, 2], b"12"), ([0, 1], b"12"), ([0, -1], b""), ([2, 1], b"12")],
)
def test_places_that_are_not_in_the_file(places: list[int], body: bytes) -> None:
    """Layers are the whole of the file after its header, each once."""
    about = {"mask": json.dumps({"shapes": {"a": [8]}, "sha256": ""})}
    size = max(0, places[1] - places[0])
    layer = {"dtype": "U8", "shape": [size], "data_offsets": places}
    with pytest.raises(Corrupt, match=r"layers|not packed bits"):
        parse(raw({"__metadata__": about, "a": layer}, body))


def test_torch_refuses_no_less() -> None:
    """A type other than packed bits is none for either reader."""
    data = save({"a": np.zeros(1, np.float32)}, metadata={"mask": '{"shapes":{},"sha256":""}'})
    with pytest.raises(Corrupt, match="not packed bits"):
        parse(data)
    with pytest.raises(UserError):
        from_bytes(data)
