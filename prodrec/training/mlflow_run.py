"""One run of MLflow, through its client: whatever goes wrong is raised as MLflow, requests or SQLAlchemy raise it.

MLflow is imported where it is used: it is optional, and takes seconds.
"""

import logging
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# A timeout of one request, seconds, and repetitions: an epoch waits for them, and MLflow's own would hold up a run for many
# minutes (source: assumed). Its client would also tell its makers how it is used.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# Most parameters of one request, and characters of a value. Source: MLflow's REST API, runs/log-batch.
_PARAMS_AT_ONCE, _PARAM_LENGTH = 100, 6000
# Of an entry of the history, what MLflow calls the step.
_NUMBERS = ("epoch", "trial")


class MlflowRun:
    """A connection to one MLflow run, new or taken up.

    Args:
        uri: tracking URI.
        run_id: of the run to go on with; None, or one that was deleted: a new one is made.

    Attributes:
        rounds: how many epochs MLflow has, or trials of a recipe with `fit`.
    """

    def __init__(self, uri: str, experiment: str, name: str, run_id: str | None, params: Mapping[str, str]) -> None:
        for variable, value in _ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.uri, self.experiment = uri, experiment
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow's own use of SQLAlchemy: nothing that a user could mend
            self.client = MlflowClient(tracking_uri=uri)
            self.run_id = run_id if run_id and self._is_there(run_id) else self._new(name)
            self.rounds = max((metric.step for metric in self.client.get_metric_history(self.run_id, "train_loss")), default=0)
            self._tell_params(params)

    def send_epochs(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Sends the entries that MLflow does not have."""
        for number, entry in enumerate(history[self.rounds :], start=self.rounds + 1):
            self._send({name: value for name, value in entry.items() if type(value) in (int, float) and name not in _NUMBERS}, number)
            self.rounds = number

    def send_final(self, values: Mapping[str, float], rounds: int) -> None:
        self._send(values, rounds)

    def send_folder(self, folder: Path, name: str) -> None:
        self.client.log_artifacts(self.run_id, str(folder), name)

    def end(self, status: str) -> None:
        """Status: FINISHED, FAILED or KILLED."""
        self.client.set_terminated(self.run_id, status)

    def _send(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(name, float(value), now, step) for name, value in values.items()])

    def _tell_params(self, params: Mapping[str, str]) -> None:
        """MLflow takes each parameter once: a run that goes on keeps those that it has."""
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        new = [Param(name, value[:_PARAM_LENGTH]) for name, value in params.items() if name not in known]
        for first in range(0, len(new), _PARAMS_AT_ONCE):
            self.client.log_batch(self.run_id, params=new[first : first + _PARAMS_AT_ONCE])

    def _is_there(self, run_id: str) -> bool:
        """Takes up a run; False if it was deleted there."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE"):
                return False
            raise
        return True

    def _new(self, name: str) -> str:
        return str(self.client.create_run(self._experiment_id(), run_name=name).info.run_id)

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self.experiment)
        if not found:
            try:
                return str(self.client.create_experiment(self.experiment, artifact_location=_beside_database(self.uri)))
            except MlflowException:  # another run was quicker
                found = self.client.get_experiment_by_name(self.experiment)
                if not found:
                    raise
        return str(found.experiment_id)


def _beside_database(uri: str) -> str | None:
    """Where artefacts of a SQLite database go; MLflow's default is the folder that a process happens to run in."""
    path = uri.removeprefix("sqlite:///")
    return None if path == uri else str(Path(path).absolute().parent / "mlartifacts")
