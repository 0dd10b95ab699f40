"""The cases by name, each with the fact that it states."""

CASES: dict[str, str] = {
    "options": "options are keyword-only, of plain types, and their defaults say nothing new",
    "covers": "the mask covers exactly the prunable weights, by name and shape",
    "count": "exactly round(density * N) weights are kept, at six densities from all to one",
    "finite": "every score is a finite number",
    "same-seed": "the same seed gives the same mask, bit for bit",
    "seed": "what is drawn comes from task.generator, and something decides the mask",
    "again": "a search leaves nothing behind that changes the next one",
    "untouched": "network, data and all that is global are as before",
    "batch-norm": "a network with batch norms, a skip, grouped and depthwise convolutions",
    "tied": "a network that uses one weight twice",
    "bias-free": "a network without biases",
    "transformer": "a block of self-attention",
    "float64": "a network in double precision",
    "cost": "examples that pass forward and backward are counted",
    "memo": "a search that was killed at any stage resumes to the same mask",
    "better": "the mask is not clearly worse than a random one where half of the network is dead",
    "gpu": "the same on a GPU",
}

OTHER = {"walls": "a search behind the walls of this machine finds the same mask, twice"}
"""Cases that the harness adds, see `paibench check-method`."""
