"""Mask finders: one method, one file, one paper; and the arithmetic of masks."""

from paibench.methods.core.registry import UserError as UserError
from paibench.methods.core.registry import get as get
from paibench.methods.core.registry import names as names
