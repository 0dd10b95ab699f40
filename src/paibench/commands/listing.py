"""Lists of methods, models and data sets, made without importing them, and of recipes."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from paibench.commands.options import Data, Json, echo_json
from paibench.methods.core.registry import Kind, UserError, find, is_name, names
from paibench.methods.core.signature import Described, describe
from paibench.methods.core.text import printable

Name = Annotated[str | None, typer.Argument(help="Show only this one, with its options.")]


def methods(name: Name = None, as_json: Json = False) -> None:
    """List the mask finders with their papers, or show one with its options."""
    _show("methods", name, as_json)


def models(name: Name = None, as_json: Json = False) -> None:
    """List the networks, or show one with its options. Any timm model is `timm:NAME`."""
    _show("models", name, as_json)


def datasets(name: Name = None, as_json: Json = False) -> None:
    """List the data sets, or show one with its options."""
    _show("datasets", name, as_json)


def recipes(name: Name = None, as_json: Json = False) -> None:
    """List the training recipes, or show one with all its settings."""
    from paibench.benchmark.spec import load_recipe

    if name is not None:
        settings = asdict(load_recipe(name))
        if as_json:
            echo_json({"name": name, **settings})
            return
        typer.echo(f"{name}: a recipe; --recipe-option changes its settings")
        _print_columns([(key, str(value)) for key, value in settings.items()])
        return
    reasons = {each: broken_reason(each, "recipes") for each in names("recipes")}
    loaded = {
        each: {"broken": reason} if reason else asdict(load_recipe(each))
        for each, reason in reasons.items()
    }
    if as_json:
        echo_json(loaded)
        return
    _print_columns([(each, _recipe_line(settings)) for each, settings in loaded.items()])


def broken_reason(name: str, kind: Kind) -> str | None:
    """Return why a registered name cannot be used, as far as can be seen; None if it can.

    A recipe is loaded. The modules of other plugins are read and not imported.
    """
    if not is_name(name):
        return "its name cannot be used; take letters, digits, '_', '-', '.' and ':'"
    try:
        if kind == "recipes":
            from paibench.benchmark.spec import load_recipe

            load_recipe(name)
        else:
            describe(find(name, kind))
    except UserError as error:
        return str(error)
    return None


def prepare(
    dataset: Annotated[str, typer.Argument(help="A name that `paibench datasets` lists.")],
    data: Data = None,
) -> None:
    """Download and verify a data set. No other command downloads anything."""
    # First, so that a misspelt name is reported even without a data folder.
    find(dataset, "datasets")
    if data is None:
        raise UserError(f"{dataset}: no data folder given; set PAIBENCH_DATA or --data")
    from paibench.benchmark.data.download import prepare as download

    typer.echo(download(dataset, data))


def _show(kind: Kind, name: str | None, as_json: bool) -> None:
    if name:
        # A plugin that is asked for by name ends the command if it is broken.
        entries = [describe(find(name, kind))]
    else:
        entries = [_describe(each, kind) for each in names(kind)]
    if as_json:
        plain = [_plain(entry) for entry in entries]
        echo_json(plain[0] if name else plain)
    elif name:
        _print_details(entries[0])
    else:
        _print_columns(
            [
                (entry.name, "\n".join(filter(None, [entry.summary, entry.paper])))
                for entry in entries
            ]
        )


def _describe(name: str, kind: Kind) -> Described:
    """Describe an entry; a broken plugin is listed as broken and does not hide the others."""
    if reason := broken_reason(name, kind):
        return Described(name, f"broken: {reason}", "", "", {}, False, broken=reason)
    return describe(find(name, kind))


def _plain(entry: Described) -> dict[str, Any]:
    options = {
        name: {"takes": option.describe(), "default": option.default}
        for name, option in entry.options.items()
    }
    about = {"name": entry.name, "summary": entry.summary, "paper": entry.paper}
    if entry.broken:
        about["broken"] = entry.broken
    return {**about, "options": options}


def _print_details(entry: Described) -> None:
    typer.echo(f"{entry.name}: {entry.summary}")
    if entry.paper:
        typer.echo(f"Paper: {entry.paper}")
    typer.echo(f"\n{entry.doc}\n")
    if not entry.options:
        typer.echo("It takes no options.")
        return
    typer.echo("Options and their defaults:")
    _print_columns(
        [
            (f"{name} = {option.default!r}", option.describe())
            for name, option in entry.options.items()
        ]
    )


def _print_columns(rows: list[tuple[str, str]]) -> None:
    # The names of plugins may hold anything.
    rows = [(printable(left), right) for left, right in rows]
    width = max((len(left) for left, _ in rows), default=0)
    for left, right in rows:
        # A plugin may have an empty summary, which has no lines.
        first, *rest = right.splitlines() or [""]
        typer.echo(f"  {left:<{width}}  {first}")
        for line in rest:
            typer.echo(f"  {'':<{width}}  {line}")


def _recipe_line(settings: dict[str, Any]) -> str:
    if reason := settings.get("broken"):
        return f"broken: {reason}"
    schedule = settings["schedule"]
    # A drop may be a fraction without end, such as 80 / 150.
    if settings["drops"]:
        schedule += " at " + ", ".join(f"{drop:.3g}" for drop in settings["drops"])
    return (
        f"{settings['epochs']} epochs, batch {settings['batch']}, {settings['optimizer']}, "
        f"lr {settings['lr']:g} {schedule}, decay {settings['weight_decay']:g}, "
        f"augment {settings['augment']}, {settings['precision']}"
    )
