"""Supermasks: train scores or probabilities of weights and leave the weights as they are."""
