"""What there is: methods, models, data sets and recipes, listed without importing them."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from paibench.commands.options import Data, Json
from paibench.methods.core.registry import Kind, UserError, find, names
from paibench.methods.core.signature import Described, describe

Name = Annotated[str | None, typer.Argument(help="Show one in full.")]


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
    """List the ways of training, or show one with all its settings."""
    if name is not None:
        settings = asdict(find(name, "recipes").load())
        if as_json:
            typer.echo(json.dumps({"name": name, **settings}))
            return
        typer.echo(f"{name}: a recipe; a spec may change each setting with --recipe-option")
        _columns([(key, str(value)) for key, value in settings.items()])
        return
    loaded = {each: asdict(find(each, "recipes").load()) for each in names("recipes")}
    if as_json:
        typer.echo(json.dumps(loaded))
        return
    _columns([(each, _recipe_line(settings)) for each, settings in loaded.items()])


def prepare(
    dataset: Annotated[str, typer.Argument(help="Its name, as `paibench datasets` lists it.")],
    data: Data = None,
) -> None:
    """Download a data set once, verified; afterwards nothing is ever downloaded."""
    find(dataset, "datasets")
    if data is None:
        raise UserError(f"{dataset}: no data folder given; set PAIBENCH_DATA or --data")
    from paibench.benchmark.data.download import prepare as fetch

    typer.echo(fetch(dataset, data))


def _show(kind: Kind, name: str | None, as_json: bool) -> None:
    if name:
        found = [describe(find(name, kind))]
    else:
        found = [_described(each, kind) for each in names(kind)]
    if as_json:
        plain = [_plain(each) for each in found]
        typer.echo(json.dumps(plain[0] if name else plain))
    elif name:
        _in_full(found[0])
    else:
        _columns([(each.name, _line(each)) for each in found])


def _described(name: str, kind: Kind) -> Described:
    """What is known of a name; one plugin that is broken hides no other."""
    try:
        return describe(find(name, kind))
    except UserError as error:
        return Described(name, f"broken: {error}", "", "", {}, False)


def _plain(described: Described) -> dict[str, Any]:
    options = {
        name: {"takes": option.describe(), "default": option.default}
        for name, option in described.options.items()
    }
    about = {"name": described.name, "summary": described.summary, "paper": described.paper}
    return {**about, "options": options}


def _line(described: Described) -> str:
    return described.summary + (f"\n{described.paper}" if described.paper else "")


def _in_full(described: Described) -> None:
    typer.echo(f"{described.name}: {described.summary}")
    if described.paper:
        typer.echo(f"Paper: {described.paper}")
    typer.echo(f"\n{described.doc}\n")
    if described.options:
        typer.echo("Options and their defaults:")
        _columns(
            [
                (f"{name} = {option.default!r}", option.describe())
                for name, option in described.options.items()
            ]
        )
    else:
        typer.echo("It takes no options.")


def _columns(rows: list[tuple[str, str]]) -> None:
    width = max((len(left) for left, _ in rows), default=0)
    for left, right in rows:
        first, *rest = right.splitlines() or [""]
        typer.echo(f"  {left:<{width}}  {first}")
        for line in rest:
            typer.echo(f"  {'':<{width}}  {line}")


def _recipe_line(settings: dict[str, Any]) -> str:
    schedule = settings["schedule"]
    if settings["drops"]:
        schedule += " at " + ", ".join(f"{drop:.3g}" for drop in settings["drops"])
    return (
        f"{settings['epochs']} epochs, batch {settings['batch']}, {settings['optimizer']}, "
        f"lr {settings['lr']:g} {schedule}, decay {settings['weight_decay']:g}, "
        f"augment {settings['augment']}, {settings['precision']}"
    )
