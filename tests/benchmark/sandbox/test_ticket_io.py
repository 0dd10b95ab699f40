"""A ticket as bytes: there and back, and nothing else is taken for one."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from paibench.benchmark.sandbox.ticket_io import BadTicketFile, pack, unpack
from paibench.methods.core.mask import Mask
from paibench.methods.core.ticket import Channels, Scores, Ticket

MASK: Mask = {"a.weight": torch.tensor([[True, False], [False, True]]), "b": torch.ones(3) > 0}
SCORES = {"a.weight": torch.tensor([[1.5, -2.0], [0.0, 3.0]]), "b": torch.arange(3)}
WEIGHTS = {"a.weight": torch.randn(2, 2), "norm.running_mean": torch.zeros(4)}
ROWS = {"a.weight": torch.tensor([0, -1, 2, 1])}
ABOUT = {"scores": False, "kept": None, "weights": False, "start": 0, "finetune": False}


def raw(tensors: dict[str, Tensor], **about: Any) -> bytes:
    known = ABOUT | {"native": 0, "channels": False, "distances": [], "notes": []} | about
    return save(tensors, metadata={"ticket": json.dumps(known)})


@pytest.mark.parametrize(
    "ticket",
    [
        Ticket(MASK),
        Ticket(MASK, weights=WEIGHTS, start=7, finetune=True),
        Ticket(MASK, weights={}),
        Ticket(Scores(SCORES)),
        Ticket(Scores(SCORES, {"a.weight": 3, "b": 0}), native=(WEIGHTS, {}, SCORES)),
        Ticket(Channels(torch.rand(3), torch.zeros(3).long(), ROWS, {}), start=2),
        Ticket(MASK, distances=((), (0.25,), (0.0, 1.0)), notes=("a line",)),
    ],
    ids=["mask", "weights", "no weights", "scores", "counts and natives", "channels", "distances"],
)
def test_there_and_back(ticket: Ticket) -> None:
    """Every tensor has its name, shape, type and values again, and all else is as it was."""
    back = unpack(pack(ticket))
    for ours, theirs in zip(tensors(ticket), tensors(back), strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert all(ours[name].dtype == theirs[name].dtype for name in ours)
    assert (back.start, back.finetune) == (ticket.start, ticket.finetune)
    assert (back.distances, back.notes) == (ticket.distances, ticket.notes)
    assert (back.weights is None) == (ticket.weights is None)
    if isinstance(ticket.mask, Scores) and isinstance(back.mask, Scores):
        assert back.mask.kept == ticket.mask.kept


def tensors(ticket: Ticket) -> list[dict[str, Tensor]]:
    parts: list[Mapping[str, Tensor]] = [ticket.weights or {}, *ticket.native]
    if isinstance(ticket.mask, Channels):
        numbers = {"scores": ticket.mask.scores, "layers": ticket.mask.layers}
        parts += [numbers, ticket.mask.rows, ticket.mask.columns]
    else:
        parts += [ticket.mask.values if isinstance(ticket.mask, Scores) else ticket.mask]
    return [dict(each) for each in parts]


def test_a_view_is_packed_as_what_it_shows() -> None:
    """Transposed and expanded tensors, and those that share memory, are whole on the other side."""
    base = torch.arange(6.0).view(2, 3)
    found = unpack(pack(Ticket(Scores({"a": base.t(), "b": base[:, :1].expand(2, 4)}))))
    assert isinstance(found.mask, Scores)
    assert torch.equal(found.mask.values["a"], base.t())
    assert torch.equal(found.mask.values["b"], base[:, :1].expand(2, 4))


def twice(data: bytes) -> bytes:
    """The same file with the first tensor named twice in its header."""
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].rstrip()
    entry = header[header.index(b'"mask/b"') : header.index(b"}", header.index(b'"mask/b"')) + 1]
    header = header[:-1] + b"," + entry + b"}"
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: b"", "header does not say"),
        (lambda: b"\x80\x04\x95", "header does not say"),
        (lambda: (1 << 40).to_bytes(8, "little") + b"{}", "header does not say"),
        (lambda: save({"mask/a": torch.ones(1)}), "header does not say"),
        (lambda: raw({}, start="0"), "header does not say"),
        (lambda: raw({}, start=True), "header does not say"),
        (lambda: raw({}, native=10**9), "header does not say"),
        (lambda: raw({}, distances=[0]), "header does not say"),
        (lambda: raw({}, notes="a line"), "header does not say"),
        (lambda: raw({}, kept={"a": 1.5}, scores=True), "header does not say"),
        (lambda: raw({"mask/a": torch.ones(2)}), "mask of 'a' has dtype F32, needed BOOL"),
        (lambda: raw({"mask/a": torch.tensor([0, 7], dtype=torch.uint8)}), "dtype U8, needed BOOL"),
        (lambda: raw({"score/a": torch.ones(2) > 0}, scores=True), "dtype BOOL, needed numbers"),
        (lambda: raw({"mask/a": torch.ones(2) > 0}, scores=True), "give one of them"),
        (lambda: raw({"native3/a": torch.ones(2)}, native=3), "no part of a ticket"),
        (lambda: raw({"../../x": torch.ones(2)}), "no part of a ticket"),
        (lambda: pack(Ticket(MASK))[:-1], "not safetensors"),
        (lambda: twice(pack(Ticket(MASK))), "mask/b.* twice|duplicate"),
    ],
)
def test_what_is_no_ticket(data: Callable[[], bytes], said: str) -> None:
    """It is refused, saying what it is not."""
    with pytest.raises(BadTicketFile, match=said):
        unpack(data())


def test_a_seven_is_not_taken_for_true() -> None:
    """A byte that is true in another way is seen in a mask of booleans too."""
    data = bytearray(pack(Ticket({"a": torch.tensor([True, False])})))
    data[data.rindex(1)] = 7
    with pytest.raises(BadTicketFile, match="other than 0 and 1"):
        unpack(bytes(data))


@given(st.data())
def test_any_change_is_a_ticket_or_refused(data: st.DataObject) -> None:
    """Bytes that were changed anywhere raise nothing else."""
    whole = bytearray(pack(Ticket(MASK, weights=WEIGHTS)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        assert isinstance(unpack(bytes(whole[:cut])), Ticket)
    except BadTicketFile as error:
        assert str(error).isprintable()
