"""Reading a short TOML file that a user wrote, or saying in one line why it cannot be read."""

import tomllib
from pathlib import Path
from typing import Any

from paibench.methods.core.registry import UserError

MAX_BYTES = 1 << 20


def read(path: Path, kind: str) -> dict[str, Any]:
    """The tables of a TOML file, none where it is blank; `kind` is what it should be: "a sweep".

    Raises UserError in one line that starts with the path.
    """
    try:
        with path.open("rb") as file:  # which may be a pipe
            return _parse(file.read(MAX_BYTES + 1), kind)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path") from None
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
    except tomllib.TOMLDecodeError as error:  # says line and column
        raise UserError(f"is not TOML: {' '.join(str(error).split())[:200]}") from error
    except ValueError:
        raise UserError("is not TOML: it holds a number of thousands of digits") from None
