"""Mask files: they return bit for bit, and one line names whatever is wrong with one."""

import hashlib
import json
import pickle
import struct
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paibench.methods.core.mask_bits import decode
from paibench.methods.core.mask_file import digest, from_bytes, pack
from paibench.methods.core.registry import UserError


@st.composite
def masks(draw: st.DrawFn) -> dict[str, Tensor]:
    shapes = st.lists(st.integers(0, 5), max_size=4)
    names = st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__")
    sizes = draw(st.dictionaries(names, shapes, max_size=4))
    noise = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    return {name: torch.rand(shape, generator=noise) < 0.5 for name, shape in sizes.items()}


def example() -> dict[str, Tensor]:
    kept = torch.arange(30).view(2, 3, 5) % 3 == 0
    return {"conv.weight": kept, "fc.weight": torch.tensor([[True, False]])}


@given(mask=masks())
@settings(max_examples=80, deadline=None, derandomize=True)
def test_round_trip(mask: dict[str, Tensor]) -> None:
    """Any mask returns with its names in order, its shapes and its bits."""
    found = from_bytes(pack(mask).to_bytes())
    assert list(found) == list(mask)
    assert all(torch.equal(found[name], kept) for name, kept in mask.items())
    assert all(kept.dtype == torch.bool for kept in found.values())


@given(mask=masks())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_counts(mask: dict[str, Tensor]) -> None:
    """The numbers of weights and of kept weights are read from the packed bits."""
    packed = decode(pack(mask).to_bytes())
    assert packed.kept == {name: int(kept.sum()) for name, kept in mask.items()}
    assert packed.sizes == {name: kept.numel() for name, kept in mask.items()}
    assert packed.sha256 == digest(mask)


@given(mask=masks(), data=st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_tampering(mask: dict[str, Tensor], data: st.DataObject) -> None:
    """A file with one changed byte is refused or holds the same mask."""
    good = pack(mask).to_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= data.draw(st.integers(1, 255))
    try:
        found = from_bytes(bytes(bad))
    except UserError as error:
        assert str(error).startswith("mask file: ") and str(error).isprintable()
    else:
        assert digest(found) == digest(mask)


@given(data=st.binary(max_size=200))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_garbage(data: bytes) -> None:
    """Bytes that are no safetensors file are refused as such."""
    with pytest.raises(UserError, match="^mask file: "):
        from_bytes(data)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 20, -1])
def test_truncation(cut: int) -> None:
    """A file cut short anywhere is refused."""
    with pytest.raises(UserError, match="^mask file: not safetensors"):
        from_bytes(pack(example()).to_bytes()[:cut])


def test_a_pickle_is_data() -> None:
    """A pickle that would run code is refused and runs nothing."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return pytest.fail, ("the pickle was read",)

    with pytest.raises(UserError, match="^mask file: not safetensors"):
        from_bytes(pickle.dumps(Bomb()))


def test_one_bit_a_weight() -> None:
    """The bits take an eighth of a byte each, row-major, low bit first."""
    small, large = (
        pack({"w": torch.ones(n, 1000, dtype=torch.bool)}).to_bytes() for n in (800, 1600)
    )
    assert len(large) - len(small) <= 800 * 1000 / 8 + 16
    assert (
        pack({"w": torch.tensor([[True, False, False], [True, True, False]])}).to_bytes()[-1]
        == 0b11001
    )


def test_equal_bytes() -> None:
    """Equal masks give equal bytes."""
    assert pack(example()).to_bytes() == pack(example()).to_bytes()


def test_digest_is_of_what_the_mask_says() -> None:
    """Order, strides and the file do not enter the digest; names, shapes and bits do."""
    mask = example()
    turned = {"fc.weight": mask["fc.weight"], "conv.weight": mask["conv.weight"].mT.contiguous().mT}
    assert digest(mask) == digest(turned) == digest(from_bytes(pack(turned).to_bytes()))
    flipped = mask | {"fc.weight": ~mask["fc.weight"]}
    renamed = {"conv.weight": mask["conv.weight"], "fd.weight": mask["fc.weight"]}
    shaped = mask | {"fc.weight": mask["fc.weight"].T}
    assert len({digest(m) for m in (mask, flipped, renamed, shaped)}) == 4


def test_digest_by_hand() -> None:
    """The digest is of one line of JSON and the bits for each name; records hold it for good."""
    text = b'["conv.weight", [2, 3, 5]]\n' + bytes([0b01001001, 0b10010010, 0b00100100, 0b001001])
    text += b'["fc.weight", [1, 2]]\n' + bytes([0b01])
    assert digest(example()) == hashlib.sha256(text).hexdigest()


def file(about: object, tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    """A safetensors file with this metadata and these (dtype, shape, bytes)."""
    header: dict[str, Any] = {"__metadata__": about} if about is not None else {}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def about(shapes: object, sha256: object = "0" * 64) -> dict[str, str]:
    return {"mask": json.dumps({"shapes": shapes, "sha256": sha256})}


BITS = {"w": ("U8", [1], b"\x05")}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (file(about({"w": [3]}), {"w": ("F32", [1], bytes(4))}), "'w' is F32 of 1 dimensions"),
        (file(about({"w": [3]}), {"w": ("U8", [1, 1], b"\x05")}), "'w' is U8 of 2 dimensions"),
        (file(None, BITS), "no shapes and sha256 in its header's metadata"),
        (file({"other": "{}"}, BITS), "no shapes and sha256"),
        (file({"mask": "[" * 100_000}, BITS), "no shapes and sha256"),
        (file({"mask": "[1]"}, BITS), "no shapes and sha256"),
        (file(about([3]), BITS), "no shapes and sha256"),
        (file(about({"w": 3}), BITS), "no shapes and sha256"),
        (file(about({"w": [3.0]}), BITS), r"'w' has the shape \(3.0,\)"),
        (file(about({"w": [True, 3]}), BITS), "'w' has the shape"),
        (file(about({"w": [-1, -3]}), BITS), "'w' has the shape"),
        (file(about({"w": [2**40, 2**40]}), BITS), "'w' has the shape"),
        (file(about({"w": [1] * 99}), BITS), "'w' has the shape"),
        (file({"mask": '{"shapes": {}, "shapes": {}}'}, BITS), "its header has a name twice"),
        (file(about({"v": [3]}), BITS), "'v' is named in its header or its data alone"),
        (file(about({"w": [3], "x": [1]}), BITS), "'x' is named in its header"),
        (file(about({"w": [9]}), BITS), "'w' has 1 bytes for 9 bits"),
        (file(about({"w": [10**6, 10**6]}), BITS), "'w' has 1 bytes for 1000000000000 bits"),
        (file(about({"w": [0]}), BITS), "'w' has 1 bytes for 0 bits"),
        (file(about({"w": [2]}), BITS), "'w' has bits beyond its 2 weights"),
        (file(about({"w": [3]}), BITS), "the bits do not have the sha256"),
        (file(about({"w": [3]}, None), BITS), "the bits do not have the sha256"),
        (file(about({"w\n" + "x" * 999: [3]}), BITS), r"'w' is named|'w\\nx+ is named"),
    ],
)
def test_refused(data: bytes, message: str) -> None:
    """Each thing that can be wrong is named, in one short line."""
    with pytest.raises(UserError, match=f"^mask file: ({message})") as caught:
        from_bytes(data)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("offsets", "body"),
    [([0, 4], b"12"), ([1, 2], b"12"), ([0, 1], b"12"), ([0, -1], b""), ([2, 1], b"12")],
)
def test_offsets_outside_the_file(offsets: list[int], body: bytes) -> None:
    """Layers fill the file after its header, each once."""
    layer = {"dtype": "U8", "shape": [max(0, offsets[1] - offsets[0])], "data_offsets": offsets}
    text = json.dumps({"__metadata__": about({"w": [8]}), "w": layer}).encode()
    with pytest.raises(UserError, match="^mask file: not safetensors"):
        from_bytes(struct.pack("<Q", len(text)) + text + body)
