"""Accuracy and loss of a network, and statistics of its batch norms before training."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from paibench.methods.core.random_streams import derive
from paibench.methods.training.data import Split, order
from paibench.methods.training.loop import autocast, to_layout
from paibench.methods.training.recipe import Precision

EVALUATION_BATCH = 500
NORM_EXAMPLES = 10_000  # beyond this, running statistics change only after the third digit


class Score(NamedTuple):
    """The fraction of correct predictions, and the mean cross-entropy in nats.

    `predictions` has one bit per example, 1 if its prediction is correct. The first example is the
    highest bit of the first byte; the last byte is filled with zeros.
    """

    accuracy: float
    loss: float
    predictions: bytes


def evaluate(net: nn.Module, split: Split, precision: Precision = "fp32") -> Score:
    """Return accuracy and loss over a whole split in eval mode; the mode of `net` is restored."""
    was_training = net.training
    net.eval()
    device = next(net.parameters()).device
    right, losses = [], []
    with torch.inference_mode(), autocast(precision, device):
        for inputs, labels in split.batches(torch.arange(len(split)), EVALUATION_BATCH):
            outputs = net(to_layout(inputs, precision)).float()
            right.append(outputs.argmax(1) == labels)
            losses.append(F.cross_entropy(outputs, labels, reduction="sum"))
    net.train(was_training)
    correct = torch.cat(right).cpu().numpy()
    loss = float(torch.stack(losses).double().sum()) / len(split)
    return Score(int(correct.sum()) / len(split), loss, np.packbits(correct).tobytes())


def reestimate_norms(
    net: nn.Module, split: Split, seed: int, precision: Precision = "fp32"
) -> None:
    """Set the running statistics of batch norms to their means over training data, in place.

    The means are taken over batches of up to `NORM_EXAMPLES` examples without augmentation;
    dropout draws from the seed. Networks without running statistics do not change.
    """
    norms = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    was_training = net.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    net.train()
    device = next(net.parameters()).device
    indices = order(len(split), seed, 0)[:NORM_EXAMPLES]
    # no_grad and not inference_mode: the statistics stay ordinary tensors that training updates
    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), autocast(precision, device), torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, "norms"))
        for inputs, labels in split.batches(indices, EVALUATION_BATCH):
            if len(labels) > 1:
                net(to_layout(inputs, precision))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.train(was_training)
