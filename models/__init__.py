"""Networks, their initializations, and the adapter for timm."""
