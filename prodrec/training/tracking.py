"""Telling MLflow of a run: parameters, metrics of every epoch (or trial), and at the end figures, report and bundle.

The run's own folder is the truth; MLflow is told. Only before the first step does a server that cannot be reached end a run.
Later it is tried again with a later epoch and at the end, and RUN/tracking.json says what MLflow does not have.
"""

import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prodrec.config import Recipe, TrackingConfig
from prodrec.errors import ConfigError, shown_url
from prodrec.evaluation.summary import headline
from prodrec.files import Folder
from prodrec.reports.page import flat
from prodrec.shards.reading import Shards
from prodrec.sources.schema import SPLITS
from prodrec.training.mlflow_run import MlflowRun
from prodrec.version import code_version

TRACKING = "tracking.json"
# After a failure MLflow is left alone for so long, seconds: a server that hangs must not cost every short epoch a minute. Source: assumed.
PAUSE_S = 60.0
# At the end there is no next epoch to wait for: tries, and seconds between them. Source: assumed.
_LAST_TRIES, _LAST_WAIT_S = 3, 5.0

_log = logging.getLogger(__name__)


def untracked(recipe: Recipe) -> Recipe:
    """The recipe as training, report and bundle know it: where a run is told of is no part of what it is."""
    return recipe.model_copy(update={"tracking": TrackingConfig()})


def start_tracking(recipe: Recipe, shards: Shards, run: Folder) -> "Tracker | None":
    """A tracker of a run, going on with its MLflow run where there is one; None where the recipe asks for none. Rank 0 only.

    Raises:
        ConfigError: MLflow is not installed, does not know the URI, or cannot be reached before the run has begun.
    """
    config = recipe.tracking
    if not config.mlflow:
        return None
    if find_spec("mlflow") is None:
        raise ConfigError("tracking.mlflow needs MLflow, which is not installed: pip install 'prodrec[mlflow]', or leave tracking.mlflow out")
    params = {name: str(value) for name, value in flat(recipe.model_dump(mode="json", exclude={"tracking"}))}
    params |= {"shards": shards.uri, "data_manifest_sha256": shards.manifest_sha256, "code_version": code_version()}
    return Tracker(config, recipe.name, run, params)


def tell_finished(recipe: Recipe, shards: Shards, run: Folder, report: str, bundle: str, history: Sequence[dict[str, Any]]) -> None:
    """Tells MLflow what it does not have of a run that is finished.

    Raises:
        ConfigError: it has nothing of it, and cannot be told.
    """
    config, noted = recipe.tracking, _noted(run)
    if not config.mlflow:
        return
    told = {"mlflow": shown_url(config.mlflow), "experiment": config.experiment, "status": "FINISHED"}
    if noted | told != noted and (tracker := start_tracking(recipe, shards, run)):
        tracker.finish(history, report, bundle)


@contextmanager
def told_of_failure(tracker: "Tracker | None") -> Iterator[None]:
    """Tells MLflow that a run ends within the block, if it does."""
    try:
        yield
    except BaseException as error:
        if tracker:
            tracker.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


class Tracker:
    """One run and its MLflow run. Nothing that goes wrong after it is made ends the run.

    Raises:
        ConfigError: a new run cannot be told to MLflow; one that was begun goes on without.
    """

    def __init__(self, config: TrackingConfig, name: str, run: Folder, params: dict[str, str]) -> None:
        assert config.mlflow
        self.config, self.name, self.run, self.params, self.shown = config, name, run, params, shown_url(config.mlflow)
        self.mlflow: MlflowRun | None = None
        self.silent_until = 0.0
        before = _noted(run)
        is_same = (before.get("mlflow"), before.get("experiment")) == (self.shown, config.experiment)
        self.run_id: str | None = before["run_id"] if is_same else None
        began = self.run_id is not None
        try:
            self._connected()
        except Exception as error:  # MLflow, requests, SQLAlchemy: each has exceptions of its own
            if not began:
                raise ConfigError(f"tracking.mlflow={self.shown}: {_line(error)}; start the server, mend the URI, or leave it out") from error
            self._failed(error)

    def epoch(self, history: Sequence[dict[str, Any]]) -> None:
        """Sends what MLflow does not have of the history."""
        if time.monotonic() >= self.silent_until:
            self._tried(lambda: self._connected().send_epochs(history))

    def finish(self, history: Sequence[dict[str, Any]], report: str, bundle: str) -> None:
        """Sends the final figures, the report and the bundle, and notes what MLflow does not have.

        Args:
            report, bundle: names of their folders in the run's.
        """
        steps: dict[str, Callable[[], None]] = {
            "metrics of epochs": lambda: self._connected().send_epochs(history),
            "final metrics": lambda: self._connected().send_final(self._final(report) | _of_the_mean(history), len(history)),
            "report": lambda: self._send_folder(report),
            "bundle": lambda: self._send_folder(bundle),
        }
        for tries_left in reversed(range(_LAST_TRIES)):
            while steps and self._tried(steps[next(iter(steps))]):
                steps.pop(next(iter(steps)))
            if not steps or not tries_left:
                break
            time.sleep(_LAST_WAIT_S)
        self.end("FAILED" if steps else "FINISHED", list(steps))

    def end(self, status: str, missing: Sequence[str] = ()) -> None:
        """How the run ended: FINISHED, FAILED or KILLED."""
        told = self._tried(lambda: self._connected().end(status))
        self._note(status if told else "UNKNOWN", [*missing, *([] if told else ["how the run ended"])])

    def _connected(self) -> MlflowRun:
        if self.mlflow is None:
            assert self.config.mlflow
            self.mlflow = MlflowRun(self.config.mlflow, self.config.experiment, self.name, self.run_id, self.params)
            self.run_id = self.mlflow.run_id
            self._note("RUNNING", [])
        return self.mlflow

    def _tried(self, step: Callable[[], None]) -> bool:
        try:
            step()
        except Exception as error:  # as above: whatever it is, the run is worth more
            self._failed(error)
            return False
        self.silent_until = 0.0
        return True

    def _failed(self, error: Exception) -> None:
        if time.monotonic() >= self.silent_until:
            _log.warning("MLflow at %s does not take what it is told; the run goes on: %s", self.shown, _line(error))
        self.silent_until = time.monotonic() + PAUSE_S

    def _note(self, status: str, missing: Sequence[str]) -> None:
        facts = {"mlflow": self.shown, "experiment": self.config.experiment, "run_id": self.run_id, "status": status, "missing": list(missing)}
        self.run.write(TRACKING, json.dumps(facts, indent=1).encode())

    def _final(self, report: str) -> dict[str, float]:
        """The figures of each split, as `final_test_top1`."""
        values: dict[str, float] = {}
        for split in SPLITS:
            if self.run.exists(name := f"{report}/{split}.json"):
                figures = flat(headline(json.loads(self.run.read(name))), f"final_{split}_")
                values |= {key: float(value) for key, value in figures if isinstance(value, int | float)}
        return values

    def _send_folder(self, name: str) -> None:
        with _on_disk(self.run, name) as folder:
            self._connected().send_folder(folder, name)


def _of_the_mean(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What the mean of the best epochs reached: it stands in the latest entry, and comes after that was sent."""
    return {name: float(value) for name, value in (history[-1] if history else {}).items() if name.startswith("average_")}


def tracking_line(run: Folder) -> str | None:
    """For the terminal: where MLflow has a run, and what it does not have; None where it was not told."""
    facts = _noted(run)
    if not facts:
        return None
    missing = f"; it does not have: {', '.join(facts['missing'])}; --resume sends it" if facts["missing"] else ""
    return f"mlflow {facts['mlflow']}, experiment {facts['experiment']}, run {facts['run_id']}{missing}"


def _noted(run: Folder) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(run.read(TRACKING)) if run.exists(TRACKING) else {}
    return facts


@contextmanager
def _on_disk(run: Folder, name: str) -> Iterator[Path]:
    """A folder of a run as local files."""
    if "://" not in run.uri:
        yield Path(run.uri) / name
        return
    with tempfile.TemporaryDirectory(prefix="prodrec-mlflow-") as temporary:
        folder = Folder(run / name)
        for file in folder.walk():
            relative = file.path.removeprefix(folder.path).lstrip("/")
            target = Path(temporary) / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(folder.read(relative))
        yield Path(temporary)


def _line(error: Exception) -> str:
    return shown_url(" ".join(str(error).split())[:300]) or type(error).__name__
