"""Going on with a run by other settings: what may change, and what is recorded of it.

What does not change results may always differ. Of the rest, some may change on the way: the run goes on from its last checkpoint as
a fork, and config.yaml says from which epoch and step on which setting. All else would make weights, optimiser or order of
the images another's: that is a run of its own.
"""

from typing import Any

from prodrec.config import Recipe
from prodrec.errors import ConfigError
from prodrec.files import Folder
from prodrec.training.checkpoint import Checkpoints, Position

# Fields, or whole sections, that no result depends on.
_FREE = ("data.threads", "data.decode", "train.keep_checkpoints", "train.checkpoint_minutes", "tracking")
# Fields and sections that a run may change on the way, and what of them it may not: other groups of parameters, another optimiser.
_ON_THE_WAY = ("optim", "augment", "tags", "train.precision", "train.epochs", "train.early_stop", "train.compile", "train.channels_last", "train.micro_batch")
_NEVER = ("optim.name", "optim.layer_decay", "augment.start_size")

Changes = dict[str, tuple[Any, Any]]
"""By dotted name: before, now."""


def changes(before: Recipe, now: Recipe) -> Changes:
    """What differs between two recipes and matters for results."""
    found = dict(_differences(before.model_dump(mode="json"), now.model_dump(mode="json")))
    return {name: values for name, values in found.items() if not _is_of(name, _FREE)}


def settings_line(found: Changes) -> str:
    return "; ".join(f"{name}: {before} -> {now}" for name, (before, now) in found.items())


def forked(run: Folder, found: Changes) -> dict[str, Any]:
    """A fork of an unfinished run, as config.yaml has it.

    Raises:
        ConfigError: one of the changes cannot be made within a run, or more epochs are done than are asked for.
    """
    position = Checkpoints(run).newest() or Position(0)
    if refused := {name: values for name, values in found.items() if not _is_of(name, _ON_THE_WAY) or _is_of(name, _NEVER)}:
        raise ConfigError(f"--resume: the run in {run.uri} was started otherwise ({settings_line(refused)}); use its settings or another --out")
    if "train.epochs" in found and found["train.epochs"][1] < position.epochs:
        raise ConfigError(
            f"--resume: {position.epochs} epochs of the run in {run.uri} are done, more than train.epochs={found['train.epochs'][1]}; --finish ends it there"
        )
    return {"epoch": position.epochs + 1, "step": position.step, "changed": {name: list(values) for name, values in found.items()}}


def check_ending(run: Folder, recipe: Recipe) -> None:
    """Raises: ConfigError: there is nothing in a run that a bundle could be made of."""
    if recipe.fit:
        raise ConfigError(f"--finish: {recipe.name} fits heads, of which the run in {run.uri} keeps none before its end; go on by --resume")
    if recipe.refit:
        raise ConfigError(f"--finish: the run in {run.uri} is a refit, whose epochs the run before has chosen; go on by --resume")
    if not (newest := Checkpoints(run).newest()) or not newest.epochs:
        raise ConfigError(f"--finish: the run in {run.uri} has no epoch that was judged, so no weights to keep; go on by --resume")


def fork_line(fork: dict[str, Any]) -> str:
    """A fork, for people."""
    stretched = "; the learning rate follows the new length" if "train.epochs" in fork["changed"] else ""
    return f"from epoch {fork['epoch']}, step {fork['step'] + 1} on: {settings_line(fork['changed'])}{stretched}"


def _is_of(name: str, fields: tuple[str, ...]) -> bool:
    return any(name == field or name.startswith(f"{field}.") for field in fields)


def _differences(before: Any, now: Any, path: str = "") -> list[tuple[str, tuple[Any, Any]]]:
    if isinstance(before, dict) and isinstance(now, dict):
        return [d for key in before | now for d in _differences(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))]
    return [] if before == now else [(path, (before, now))]
