"""The references that a new method is compared with, from dense and random to IMP."""
