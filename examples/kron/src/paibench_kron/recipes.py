"""A recipe of a third party: `paibench run --recipe sprint`."""

from paibench.methods import Recipe

# Half of the embedded recipe `lite`, at twice its rate.
sprint = Recipe(epochs=10, batch=64, lr=0.1, schedule="cosine")
