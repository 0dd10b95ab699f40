"""Masks of tensors as files: the torch side of `mask_bits`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from paibench.methods.core.mask import Mask
from paibench.methods.core.mask_bits import PackedMask, decode, encode, unpack


def pack(mask: Mapping[str, Tensor]) -> PackedMask:
    """Pack a mask on any device: its file, its digest and its counts in one pass."""
    return encode({name: layer_mask.detach().cpu().numpy() for name, layer_mask in mask.items()})


def digest(mask: Mapping[str, Tensor]) -> str:
    """Return the sha256 of a mask's names, shapes and bits; the device does not matter."""
    return pack(mask).sha256


def from_bytes(data: bytes) -> Mask:
    """Return the mask in a file that `PackedMask.to_bytes` wrote, on the CPU.

    Raises BadMaskFile, a UserError, if names, shapes, bits and digest do not agree.
    """
    packed = decode(data)
    return {
        name: torch.from_numpy(unpack(packed.bits[name], shape))
        for name, shape in packed.shapes.items()
    }
