"""A third-party recipe: `paibench run --recipe sprint`."""

from paibench.methods import Recipe

# Half as many epochs as the embedded recipe `lite`, at twice its learning rate.
sprint = Recipe(epochs=10, batch=64, lr=0.1, schedule="cosine")
