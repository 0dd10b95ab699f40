"""A recorded run trained again from its mask: init, data and training are ours, so it needs no
method, and runs nothing of whoever found the mask.
"""

from typing import Any

from paibench.benchmark import facts, memory
from paibench.benchmark.controls import reinit_seed
from paibench.benchmark.data import DataSet, load
from paibench.benchmark.nets import make_net
from paibench.benchmark.origin import strangers
from paibench.benchmark.place import Place, open_device
from paibench.benchmark.provenance import digest, environment, now
from paibench.benchmark.record import PROTOCOL, Environment, Record
from paibench.benchmark.search import Find, Search
from paibench.benchmark.spec import Spec, recipe_of
from paibench.benchmark.train import train
from paibench.methods.loop import Diverged, steps_per_epoch
from paibench.methods.mask import Mask, apply, check_covers, prunable
from paibench.methods.registry import UserError
from paibench.methods.task import Cost
from paibench.methods.ticket import Ticket

_TAKEN_OVER = (
    *("key", "spec", "search_forward", "search_backward", "search_epochs", "search_seconds"),
    *("native_accuracy", "native_density", "at_initialization", "mask_file", "curve_file"),
)
"""What a mask alone does not say: these are the record's own words."""


def retrain(then: Record, mask: Mask, place: Place = Place()) -> Record:  # noqa: B008
    """What the mask of a record comes to here.

    What only a search can say is taken over. Raises UserError where the mask is not all that the
    run started from, does not fit the network, or where data, model or recipe are not the suite's.
    """
    spec = _spec(then)
    started = now()
    device = open_device(place)
    memory.reset_peak(device)
    data = load(spec.dataset.name, spec.dataset.options, place.data, device=device, seed=spec.seed)
    net = make_net(spec, data, spec.seed).to(device)
    known: dict[str, Any] = {
        **{name: getattr(then, name) for name in _TAKEN_OVER},
        "protocol": PROTOCOL,
        **facts.of_data(data),
        "initial_sha256": digest(net.state_dict()),
    }
    try:
        check_covers(mask, prunable(net))
    except ValueError as error:
        raise UserError(f"mask of {then.key}: {error}; it is not of this network") from error
    mask = {name: mask[name].to(device) for name in prunable(net)}
    found = Search(mask, Ticket(mask), Find(Ticket(mask), Cost(), 0.0))
    known = facts.of_search(found, net, data) | known
    if spec.control == "reinit":
        net = make_net(spec, data, reinit_seed(spec.seed)).to(device)
    try:
        known |= facts.before_training(spec, net, found, data)
        apply(net, mask)
        recipe = recipe_of(spec.recipe)
        start = _start(then, spec, data)
        training = train(
            net, mask, data.train, data.test, recipe, seed=spec.seed, start=start, of=then.key
        )
        known |= {"status": "done", **facts.of_training(training, net, data)}
    except Diverged as error:
        known |= {"status": "diverged", "reason": str(error)}
    where = _without_method(environment(spec, device, started), then.environment)
    return Record(**known, peak_memory_mb=memory.peak(device), environment=where)


def _spec(then: Record) -> Spec:
    """The record's spec with a method of ours in the place of its own. Raises UserError."""
    asked = Spec.of(**then.spec | {"method": "random"})
    for _, name in strangers(asked):
        raise UserError(f"{name}: is of a third party, whose code this does not run; verify it")
    if then.at_initialization is not True:
        raise UserError(
            f"run {then.key} does not say that its ticket starts from the initial weights, so its "
            "mask is not all that it started from; verify it"
        )
    return asked


def _start(then: Record, spec: Spec, data: DataSet) -> int:
    """The step of the schedule at which training began, from how many epochs it took."""
    recipe = recipe_of(spec.recipe)
    steps = steps_per_epoch(len(data.train), recipe.batch)
    trained = recipe.epochs if then.epochs_trained is None else then.epochs_trained
    start = round((recipe.epochs - trained) * steps)
    if not 0 <= start <= recipe.epochs * steps:
        raise UserError(f"run {then.key} says that it trained {trained} epochs of {recipe.epochs}")
    return start


def _without_method(here: Environment, there: Environment) -> Environment:
    """This place, with the method's part as the record has it."""
    mine = {name: value for name, value in dict(there).items() if name.startswith("plugin")}
    return here.model_copy(update=mine | {"isolation": there.isolation})
