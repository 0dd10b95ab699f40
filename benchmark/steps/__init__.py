"""The steps of a run: device, network, search, training, evaluation, and their measurements."""
