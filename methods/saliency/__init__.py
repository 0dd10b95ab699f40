"""Saliency scores: how much a weight matters, before any training."""
