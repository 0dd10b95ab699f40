"""A package for a new method, written out: it installs, conforms, and is for its author to fill."""
