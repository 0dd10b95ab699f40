"""The sanity checks of Frankle et al. 2021 and Su et al. 2020, for any method.

`shuffle` keeps how many weights each layer keeps and moves them about; `reinit` keeps the mask
and draws fresh weights of the same distribution; `invert` keeps the lowest scores and is part of
how a mask is selected. Where they change nothing, a method did not find the right weights.
"""

import torch

from paibench.methods.mask import Mask
from paibench.methods.seeds import derive, generator


def shuffle(mask: Mask, seed: int) -> Mask:
    """The mask with its entries permuted at random within each layer."""
    draw = generator(seed, "shuffle")
    shuffled = {}
    for name, kept in mask.items():
        places = torch.randperm(kept.numel(), generator=draw).to(kept.device)
        shuffled[name] = kept.reshape(-1)[places].view(kept.shape)
    return shuffled


def reinit_seed(seed: int) -> int:
    """The seed of the fresh weights that go with a run's own seed."""
    return derive(seed, "reinit") % 2**31
