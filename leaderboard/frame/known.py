"""What is known of the suite's own methods: a name for people, what the search uses, the papers."""

from typing import Literal, NamedTuple

Uses = Literal["", "no data", "one batch", "learned mask", "trained weights", "whole channels"]


class Known(NamedTuple):
    """A method of ours."""

    title: str
    uses: Uses
    """The most that its search needs: nothing but the network; examples of one batch for scores; a
    training of the mask, with weights that stay as they are; a training of the weights."""
    papers: tuple[str, ...]
    """Keys in references.bib. They never change: people cite them."""


KNOWN: dict[str, Known] = {
    "dense": Known("dense network", "", ()),
    "random": Known("random pruning", "no data", ("evci2020rigging",)),
    "magnitude": Known("magnitude", "no data", ("han2015learning",)),
    "snip": Known("SNIP", "one batch", ("lee2019snip",)),
    "grasp": Known("GraSP", "one batch", ("wang2020picking",)),
    "synflow": Known("SynFlow", "no data", ("tanaka2020pruning",)),
    "edge_popup": Known("edge-popup", "learned mask", ("ramanujan2020hidden",)),
    "zhou": Known("Zhou's supermask", "learned mask", ("zhou2019deconstructing",)),
    "imp": Known(
        "IMP",
        "trained weights",
        ("frankle2019lottery", "frankle2020linear", "renda2020comparing"),
    ),
    "gem_miner": Known("Gem-Miner", "learned mask", ("sreenivasan2022rare",)),
    "force": Known("FORCE", "one batch", ("dejorge2021progressive",)),
    "prospr": Known("ProsPr", "one batch", ("alizadeh2022prospect",)),
    "ntk_sap": Known("NTK-SAP", "no data", ("wang2023ntksap",)),
    "px": Known("PX", "one batch", ("iurada2024finding",)),
    "dpai": Known("DPaI", "no data", ("xiang2025dpai",)),
    "phew": Known("PHEW", "no data", ("patil2021phew",)),
    "early_bird": Known("Early-Bird", "trained weights", ("you2020drawing",)),
    "cts": Known("Concrete Ticket Search", "learned mask", ("arora2025concrete",)),
}


def known(method: str, label: str, plugin: str | None) -> Known | None:
    """Return what is known of the method of a run, or None for a third party's.

    `label` has the options that differ from their defaults, two of which change what is used.
    """
    # A plugin may use a name of ours, but our papers do not describe its method.
    if method not in KNOWN or plugin not in (None, "paibench"):
        return None
    found = KNOWN[method]
    if label == "random":  # the paper is on quotas by layer
        return found._replace(papers=())
    if method == "early_bird" and "units=channel" in label:
        return found._replace(uses="whole channels")
    if method == "px" and "data=false" in label.lower():
        return found._replace(uses="no data")
    return found
