"""What the networks share: layers, construction, initializations and multiply-adds."""
