"""A recipe of a stranger whose module prints when it is imported."""

from paibench.methods.training.recipe import Recipe

print("a loud recipe")

loud = Recipe(epochs=1)
