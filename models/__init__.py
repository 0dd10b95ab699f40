"""Networks as plain modules, the timm adapter, and the initializations."""
