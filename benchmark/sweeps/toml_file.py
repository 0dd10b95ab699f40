"""Read a short TOML file of a user, with every error in one line."""

import tomllib
from pathlib import Path
from typing import Any

from paibench.methods.core.registry import UserError

MAX_BYTES = 1 << 20


def read(path: Path, kind: str) -> dict[str, Any]:
    """Return the tables of a TOML file; `kind` is what it should be, such as "a sweep".

    Raises UserError in one line that starts with the path.
    """
    try:
        with path.open("rb") as file:  # one read of limited size, since it may be a pipe
            return _parse(file.read(MAX_BYTES + 1), kind)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; check the path") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; name a TOML file") from error


def _parse(data: bytes, kind: str) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise UserError(f"is larger than {MAX_BYTES >> 20} MiB; {kind} is a short TOML file")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except RecursionError:
        raise UserError(f"is nested too deeply; {kind} is a short TOML file") from None
    except tomllib.TOMLDecodeError as error:  # its text gives line and column
        raise UserError(f"is not TOML: {' '.join(str(error).split())[:200]}") from error
    except ValueError:
        raise UserError("is not TOML: it contains a number of thousands of digits") from None
