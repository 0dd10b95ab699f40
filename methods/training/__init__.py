"""Training: recipes, the loop and the data, shared by finders and the harness."""
