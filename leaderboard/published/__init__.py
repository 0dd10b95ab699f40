"""Accuracies that papers and authors published, and how they compare with ours."""
