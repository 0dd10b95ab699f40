"""Mask finders: one method, one file, one paper; and the arithmetic of masks."""

from paibench.methods.registry import UserError as UserError
from paibench.methods.registry import get as get
from paibench.methods.registry import names as names
