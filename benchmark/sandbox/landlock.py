"""Landlock: a Linux process permanently gives up access to files and to the network.

A restricted process can neither trace nor signal processes outside. It needs no privileges. Kernels
before 5.13 do not have it, and later ones restrict more. Own code, because PyPI has only
pre-releases of bindings.
"""

import ctypes
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE, _IOCTL = 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL

READ = _EXECUTE | _READ | _LIST
LIST = _LIST
USE = _READ | _WRITE | _IOCTL
"""The rights to use a device."""
ALL = (1 << 16) - 1

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION = 1 << 0
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38

_FILES_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_NETWORK = 1 << 0 | 1 << 1  # to bind and connect by TCP; from ABI 4 on
_SCOPES = 1 << 0 | 1 << 1  # abstract sockets and signals; from ABI 6 on


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def abi() -> int:
    """Return the kernel's version of Landlock; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    return max(int(_libc().syscall(_CREATE, None, 0, _VERSION)), 0)


def restrict(allowed: Mapping[Path, int]) -> int:
    """Give up the network, and all files except those at and below these paths.

    This applies to the calling thread and everything it starts later. Missing paths are ignored.
    Return the version in force; 0 if the kernel has none, and nothing is restricted.
    """
    version = abi()
    if not version:
        return 0
    handled = max(rights for first, rights in _FILES_BY_ABI.items() if first <= version)
    net = _NETWORK if version >= 4 else 0
    scopes = _SCOPES if version >= 6 else 0
    ruleset = _Ruleset(handled, net, scopes)
    size = 8 * (1 + (version >= 4) + (version >= 6))
    libc = _libc()
    rules = libc.syscall(_CREATE, ctypes.byref(ruleset), size, 0)
    if rules < 0:
        return 0
    try:
        for path, rights in allowed.items():
            _allow(rules, path, rights & handled)
        if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.syscall(_RESTRICT, rules, 0):
            return 0
    finally:
        os.close(rules)
    return version


def _allow(rules: int, path: Path, rights: int) -> None:
    with suppress(OSError):
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = _Rule(rights if path.is_dir() else rights & _OF_FILES, opened)
            if _libc().syscall(_ADD, rules, _PATH_BENEATH, ctypes.byref(rule), 0):
                raise OSError(ctypes.get_errno(), f"no rule for {path}")
        finally:
            os.close(opened)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def rules_except(folders: Collection[Path], hidden: Collection[Path]) -> dict[Path, int]:
    """Return rules to read these folders and everything below, except the hidden paths.

    A folder that contains a hidden path can still be listed: Landlock rights apply to everything
    below a folder, so the rules name its other entries one by one.
    """
    secret = {Path(os.path.realpath(path)) for path in hidden}
    allowed: dict[Path, int] = {}
    for folder in {Path(os.path.realpath(path)) for path in folders}:
        for path, rights in _rules_except(folder, secret):
            allowed[path] = allowed.get(path, 0) | rights
    return allowed


def _rules_except(path: Path, secret: Collection[Path]) -> Iterator[tuple[Path, int]]:
    if path in secret:
        return
    if not any(each.is_relative_to(path) for each in secret):
        yield path, READ
        return
    yield path, LIST
    with suppress(OSError):
        for entry in os.scandir(path):
            if not entry.is_symlink():  # the target of a link needs its own rule
                yield from _rules_except(Path(entry.path), secret)
