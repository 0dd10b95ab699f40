"""Figures for papers, drawn with matplotlib: one module for each kind of figure."""
