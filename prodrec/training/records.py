"""What a run leaves in its folder: config.yaml, metrics.jsonl, TensorBoard scalars, report and bundle."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from tensorboardX import SummaryWriter

from prodrec.config import Recipe
from prodrec.errors import ConfigError, OutputError
from prodrec.evaluation.folds import ANSWERS, FOLDS
from prodrec.evaluation.summary import doubt, judgement
from prodrec.files import Folder
from prodrec.recipes import parse_recipe
from prodrec.training.checkpoint import Checkpoints
from prodrec.training.resuming import changes, fork_line, forked, settings_line
from prodrec.training.state import kept_weights
from prodrec.training.tracking import Tracker, tracking_line

CONFIG, METRICS, BUNDLE, REPORT = "config.yaml", "metrics.jsonl", "bundle", "report"
# In config.yaml: settings that were changed on the way, and from where on.
FORKS = "forks"


def start_run(
    uri: str, recipe: Recipe, shards_uri: str, resume: bool, launcher: str, data_sha256: str = "", on_fork: Callable[[str], None] | None = None
) -> Folder:
    """Claims a run folder, or takes up a run that stands there.

    Args:
        data_sha256: of the shards' manifest: other images may lie at the same place by now.
        on_fork: told from where on which settings are others, if some are; None: they may not be.

    Raises:
        OutputError: a run is there and `resume` is off, or the folder cannot be written.
        ConfigError: the run there has other shards, or settings that it cannot go on with.
    """
    run = Folder(uri).make()
    config: dict[str, Any] = {"shards": shards_uri, "data_sha256": data_sha256, "launcher": launcher, "recipe": recipe.model_dump(mode="json")}
    if not run.exists(CONFIG) or not (run.exists(METRICS) or Checkpoints(run).newest()):  # nothing to lose yet
        run.write(CONFIG, yaml.safe_dump(config, sort_keys=False).encode())
        return run
    if not resume:
        raise OutputError(f"{run.uri} already holds a run; go on with it by --resume, or choose another --out")
    there = yaml.safe_load(run.read(CONFIG))
    found = changes(parse_recipe(there["recipe"], run / CONFIG), recipe)
    others = [settings_line(found)] if found and (on_fork is None or recipe.fit or is_finished(run)) else []
    others += [f"shards: {there['shards']} -> {shards_uri}"] if there["shards"] != shards_uri else []
    if there.get("data_sha256") and data_sha256 and there["data_sha256"] != data_sha256:
        others.append(f"other images lie in {shards_uri} now")
    if others:
        instead = f"; to train on, start from its bundle: --from {run / BUNDLE}" if is_finished(run) else ""
        raise ConfigError(f"--resume: the run in {run.uri} was started otherwise ({'; '.join(others)}); use its settings or another --out{instead}")
    if found and on_fork:
        fork = forked(run, found)
        config[FORKS] = [*there.get(FORKS, []), fork]
        on_fork(fork_line(fork))
    elif FORKS in there:
        config[FORKS] = there[FORKS]
    if config != there:
        run.write(CONFIG, yaml.safe_dump(config, sort_keys=False).encode())
    return run


def recipe_of(uri: str, overrides: list[str] | None = None) -> Recipe | None:
    """That of the run in a folder with `a.b=value` overrides on top, if one was begun there."""
    run = Folder(uri)
    return parse_recipe(yaml.safe_load(run.read(CONFIG))["recipe"], run / CONFIG, overrides) if run.exists(CONFIG) else None


class RunRecords:
    """Writes the history of a run; rank 0 only. The whole history is written each time, so a resumed run leaves no stale lines."""

    def __init__(self, run: Folder, tracker: Tracker | None = None) -> None:
        self.run, self.tracker = run, tracker
        self.forks = yaml.safe_load(run.read(CONFIG)).get(FORKS, []) if run.exists(CONFIG) else []
        # TensorBoard files are appended to, which object stores cannot do.
        self.board = None if "://" in run.uri else SummaryWriter(str(Path(run.uri) / "tensorboard"))

    def epoch(self, history: list[dict[str, Any]]) -> None:
        """Records the latest entry of the history; the first after a fork has what `changed`."""
        if changed := {name: values for fork in self.forks if fork["epoch"] == len(history) for name, values in fork["changed"].items()}:
            history[-1]["changed"] = changed
        write_history(self.run, history)
        if self.board:
            latest = history[-1]
            for name, value in latest.items():
                if name not in ("epoch", "changed"):
                    self.board.add_scalar(name.replace("_", "/", 1) if name.startswith(("train_", "val_")) else name, value, latest["epoch"])
            self.board.flush()
        if self.tracker:
            self.tracker.epoch(history)


def read_history(run: Folder) -> list[dict[str, Any]]:
    """RUN/metrics.jsonl."""
    return [json.loads(line) for line in run.read(METRICS).splitlines()]


def write_history(run: Folder, history: list[dict[str, Any]]) -> None:
    """Writes metrics.jsonl: one line an epoch, or one a trial of a fit."""
    lines = [json.dumps(entry) for entry in history]
    run.write(METRICS, ("\n".join(lines) + "\n").encode())


def is_finished(run: Folder) -> bool:
    """Whether the last thing that a run writes is there: the bundle, or the answers of a refit's fold."""
    return run.exists(f"{BUNDLE}/bundle.json") or run.exists(ANSWERS)


def finished_summary(run: Folder) -> str:
    """Lines for the terminal on a run that is done."""
    reports = Folder(run / REPORT)
    found = {split: json.loads(reports.read(f"{split}.json")) for split in ("train", "val", FOLDS, "test") if reports.exists(f"{split}.json")}
    lines = [judgement(metrics) for metrics in found.values()]
    lines += [f"note: {told}" for told in dict.fromkeys(map(doubt, found.values())) if told]
    recipe = recipe_of(run.uri)
    assert recipe is not None
    lines.append(f"kept: {kept_weights(read_history(run), recipe)}")
    acceptance = json.loads(run.read(f"{BUNDLE}/bundle.json")).get("acceptance") or {}
    if told := acceptance.get("carried_over"):
        lines.append(f"thresholds: {'those of the run before' if acceptance['accepted'] else 'none'}, as {told}")
    if told := tracking_line(run):
        lines.append(told)
    return "\n".join([*lines, f"report {reports / 'index.html'}", f"bundle {run / BUNDLE}"])
