"""A complete package of a third party: a mask finder, a model, a data set and a recipe."""
