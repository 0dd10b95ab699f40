"""Labels taken apart again: the name before the bracket, and the options in it as text."""

import re

_LABEL = re.compile(r"([^()]+)\((.*)\)", re.DOTALL)
_QUOTED = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_OPTION = re.compile(rf"([A-Za-z_]\w*)=({_QUOTED}|[^,'\"]*)(?:, |\Z)")


def split(label: str) -> tuple[str, dict[str, str]]:
    """The name and the options of a label: "resnet-20(width=2.0)" → "resnet-20", width "2.0".

    Values are the text that the label shows. What is no label is all name.
    """
    found = _LABEL.fullmatch(label)
    if not found:
        return label, {}
    name, inside = found.groups()
    options: dict[str, str] = {}
    place = 0
    while place < len(inside):
        option = _OPTION.match(inside, place)
        if not option:
            return label, {}
        options[option[1]] = option[2]
        place = option.end()
    return name, options


def number(label: str, option: str, default: float) -> float:
    """The value of an option as a number, its default where the label does not show it.

    Not a number where it is none.
    """
    text = split(label)[1].get(option)
    if text is None:
        return default
    try:
        return float(text)
    except ValueError:
        return float("nan")
