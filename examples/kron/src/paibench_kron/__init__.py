"""A complete third-party package: a mask finder, a model, a data set and a recipe."""
