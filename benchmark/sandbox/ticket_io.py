"""Tickets as safetensors: the result that a sandbox sends back.

The sandbox may send anything. Nothing that is read here is executed. This module checks types and
the header; the code that uses the ticket checks names, shapes, values and counts.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, deserialize
from safetensors.torch import load, save
from torch import Tensor

from paibench.benchmark.store.checksummed_json import Corrupt, without_duplicates
from paibench.methods.core.mask import Mask
from paibench.methods.core.text import one_line
from paibench.methods.core.ticket import MOST_NATIVE, Channels, Scores, Ticket

_ROLES = {"mask", "score", "channel", "row", "column", "weight"}
_NUMBERS = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8"}


class BadTicketFile(ValueError):
    """The bytes are not a valid ticket; the text says why."""


def pack(ticket: Ticket) -> bytes:
    """Return a ticket of plain values as bytes: tensors by role and name, the rest as JSON."""
    scores = ticket.mask if isinstance(ticket.mask, Scores) else None
    channels = ticket.mask if isinstance(ticket.mask, Channels) else None
    roles: dict[str, Mapping[str, Tensor]] = {
        "mask": ticket.mask if isinstance(ticket.mask, Mapping) else {},
        "channel": {"scores": channels.scores, "layers": channels.layers} if channels else {},
        "row": channels.rows if channels else {},
        "column": channels.columns if channels else {},
        "score": scores.values if scores else {},
        "weight": ticket.weights or {},
        **{f"native{number}": native for number, native in enumerate(ticket.native)},
    }
    about = {
        "scores": scores is not None,
        "channels": channels is not None,
        "kept": dict(scores.kept) if scores and scores.kept is not None else None,
        "weights": ticket.weights is not None,
        "start": ticket.start,
        "finetune": ticket.finetune,
        "native": len(ticket.native),
        "distances": ticket.distances,
        "notes": ticket.notes,
    }
    tensors = {
        f"{role}/{name}": _plain(tensor)
        for role, by_name in roles.items()
        for name, tensor in by_name.items()
    }
    return save(tensors, metadata={"ticket": json.dumps(about)})


def _plain(tensor: Tensor) -> Tensor:
    """Return a copy with its own memory, as safetensors needs, and booleans that are 0 or 1."""
    copy = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return copy.view(torch.uint8) != 0 if copy.dtype == torch.bool else copy


def unpack(data: bytes) -> Ticket:
    """Return the ticket that `pack` wrote. Raises BadTicketFile."""
    about = _about(data)
    roles: dict[str, dict[str, Tensor]] = {}
    for full_name, tensor in _tensors(data).items():
        role, _, name = full_name.partition("/")
        roles.setdefault(role, {})[name] = tensor
    natives = [f"native{number}" for number in range(about["native"])]
    if unexpected := sorted(roles.keys() - {*_ROLES, *natives}):
        raise BadTicketFile(
            f"it holds {one_line(unexpected[0])[:80]!r}, which is no part of a ticket"
        )
    found = [role for role in ("mask", "score", "channel") if roles.get(role)]
    due = "score" if about["scores"] else "channel" if about["channels"] else "mask"
    if set(found) - {due}:
        raise BadTicketFile("it holds a mask and scores; give one of them")
    return Ticket(
        _mask(roles, about, due),
        weights=roles.get("weight", {}) if about["weights"] else None,
        start=about["start"],
        finetune=about["finetune"],
        native=tuple(roles.get(role, {}) for role in natives),
        distances=tuple(map(tuple, about["distances"])),
        notes=tuple(about["notes"]),
    )


def _mask(
    roles: Mapping[str, dict[str, Tensor]], about: Mapping[str, Any], due: str
) -> Mask | Scores | Channels:
    if due == "score":
        return Scores(roles.get("score", {}), about["kept"])
    if due == "mask":
        return roles.get("mask", {})
    channel = roles.get("channel", {})
    if channel.keys() != {"scores", "layers"}:
        raise BadTicketFile("its channels have no scores and layers")
    rows, columns = roles.get("row", {}), roles.get("column", {})
    return Channels(channel["scores"], channel["layers"], rows, columns)


def _tensors(data: bytes) -> dict[str, Tensor]:
    """Return all tensors by name: numbers, and masks of nothing but 0 and 1."""
    try:
        entries = deserialize(data)  # type: ignore[no-untyped-call]
        tensors = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise BadTicketFile(f"it is not safetensors: {one_line(str(error))[:120]}") from error
    return dict(_checked(entries, tensors))


def _checked(
    entries: list[tuple[str, dict[str, Any]]], tensors: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    for name, entry in sorted(entries, key=lambda each: each[0]):  # safetensors orders them by size
        kind, tensor = entry["dtype"], tensors[name]
        if name.startswith("mask/"):
            if kind != "BOOL":
                raise BadTicketFile(f"mask of {name[5:85]!r} has dtype {kind}, needed BOOL")
            # a byte of 7 is also true, but counts and operators treat it differently
            if len(entry["data"]) and np.frombuffer(entry["data"], np.uint8).max() > 1:
                raise BadTicketFile(f"mask of {name[5:85]!r} holds values other than 0 and 1")
            tensor = tensor.to(torch.bool)
        elif kind not in _NUMBERS and (kind != "BOOL" or name.startswith("score/")):
            raise BadTicketFile(f"{name[:80]!r} has dtype {kind}, needed numbers")
        yield name, tensor


def _about(data: bytes) -> dict[str, Any]:
    """Return the values of the header, each checked for its type."""
    try:
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end], object_pairs_hook=without_duplicates)
        about = json.loads(header["__metadata__"]["ticket"])
        kept_counts = about["kept"]
        valid = (
            # `type` and not isinstance, because True is an int too
            all(type(about[name]) is bool for name in ("scores", "channels", "weights", "finetune"))
            and type(about["start"]) is int
            and type(about["native"]) is int
            and 0 <= about["native"] <= MOST_NATIVE
            and all(type(about[name]) is list for name in ("distances", "notes"))
            and all(type(row) is list for row in about["distances"])
            and (kept_counts is None or all(type(count) is int for count in kept_counts.values()))
        )
    except Corrupt as error:
        raise BadTicketFile(f"its header: {one_line(str(error))[:120]}") from error
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise BadTicketFile("its header does not say what it is") from error
    if not valid:
        raise BadTicketFile("its header does not say what it is")
    return dict(about)
