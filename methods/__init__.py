"""Mask finders: one method, one file, one paper; and the arithmetic of masks."""
