"""What MLflow is told, on a real database of MLflow: all of it, once, and never at the cost of the run."""

import json
import sqlite3
import sys
import warnings
from contextlib import contextmanager

import pytest
import yaml
from made import run

from prodrec.config import TrackingConfig
from prodrec.errors import ConfigError
from prodrec.files import Folder
from prodrec.training import tracking
from prodrec.training.tracking import Tracker, tracking_line

TINY = ["--local", "--set", "train.epochs=2", "--set", "input.size=32", "--set", "train.batch_size=16", "--set", "data.threads=1"]
HISTORY = [{"epoch": epoch, "train_loss": 1 / epoch, "val_top1": epoch / 10} for epoch in range(1, 5)]


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Of MLflow; made once, which takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    client(path)
    return path


def client(path):
    from mlflow.tracking import MlflowClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the product: MLflow's own use of SQLAlchemy
        found = MlflowClient(tracking_uri=f"sqlite:///{path}")
        found.search_experiments()
    return found


@contextmanager
def away(path):
    """MLflow's answers are errors while the block runs."""
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE runs RENAME TO runs_away")
    try:
        yield
    finally:
        with sqlite3.connect(path) as database:
            database.execute("ALTER TABLE runs_away RENAME TO runs")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run's folder with what a finished run leaves."""
    monkeypatch.setattr(tracking, "PAUSE_S", 0.0)
    monkeypatch.setattr(tracking, "_LAST_WAIT_S", 0.0)
    for name, text in (("report/test.json", '{"split": "test", "top1": 0.75, "per_class": []}'), ("bundle/bundle.json", "{}")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    return Folder(tmp_path)


def tracker(database, folder):
    return Tracker(TrackingConfig(mlflow=f"sqlite:///{database}"), "tiny", folder, {"optim.lr": "0.1"})


def steps(database, run_id, metric="train_loss"):
    return [found.step for found in client(database).get_metric_history(run_id, metric)]


def test_a_run_is_told_whole_and_its_bundle_does_not_say_where(database, small_shards, tmp_path, capsys):
    uri, out = f"sqlite:///{database}", tmp_path / "run"
    told = ["--set", f"tracking.mlflow={uri}", "--set", "tracking.experiment=shoes"]
    assert run("train", small_shards, "--recipe", "custom_cnn", "--out", out, *TINY, *told) == 0
    facts = json.loads((out / "tracking.json").read_text())
    assert (facts["status"], facts["missing"]) == ("FINISHED", [])
    assert f"experiment shoes, run {facts['run_id']}" in capsys.readouterr().out
    mlflow = client(database)
    found = mlflow.get_run(facts["run_id"])
    assert (found.info.status, found.info.run_name) == ("FINISHED", "custom_cnn")
    assert found.data.params["train.batch_size"] == "16"
    assert steps(database, facts["run_id"]) == [1, 2]
    test = json.loads((out / "report" / "test.json").read_text())
    assert found.data.metrics["final_test_top1"] == pytest.approx(test["top1"])
    names = {item.path for part in ("report", "bundle") for item in mlflow.list_artifacts(facts["run_id"], part)}
    assert {"report/index.html", "bundle/model.safetensors", "bundle/bundle.json"} <= names
    assert "mlflow.db" not in (out / "bundle" / "bundle.json").read_text() + (out / "report" / "index.html").read_text()
    assert yaml.safe_load((out / "config.yaml").read_text())["recipe"]["tracking"]["mlflow"] == uri
    assert run("train", small_shards, "--recipe", "custom_cnn", "--out", out, *TINY, "--resume") == 0, "where it is told of is no part of the run"


def test_heads_fitted_on_features_are_told_by_trial(database, small_bundle, small_shards, tmp_path):
    settings = [f"tracking.mlflow=sqlite:///{database}", "fit.heads=[linear]", "fit.weight_decays=[0.1, 1.0]", "train.epochs=5", "data.threads=1"]
    command = ["train", small_shards, "--recipe", "embed_then_fit", "--from", small_bundle, "--local", *(p for s in settings for p in ("--set", s))]
    assert run(*command, "--out", tmp_path / "run") == 0
    facts = json.loads((tmp_path / "run" / "tracking.json").read_text())
    assert (facts["status"], facts["missing"]) == ("FINISHED", [])
    assert steps(database, facts["run_id"]) == steps(database, facts["run_id"], "val_top1") == [1, 2]
    found = client(database).get_run(facts["run_id"])
    assert found.data.metrics["final_test_top1"] == json.loads((tmp_path / "run" / "report" / "test.json").read_text())["top1"]
    assert "kept" not in found.data.metrics
    assert str(database) not in (tmp_path / "run" / "bundle" / "bundle.json").read_text()
    assert run(*command, "--out", tmp_path / "diverged", "--set", "optim.lr=1e30", "--set", "optim.name=sgd") == 1
    failed = json.loads((tmp_path / "diverged" / "tracking.json").read_text())
    assert client(database).get_run(failed["run_id"]).info.status == failed["status"] == "FAILED"


def test_a_comparison_tells_what_a_finished_run_could_not(database, small_shards, tmp_path):
    uri = f"tracking.mlflow=sqlite:///{database}"
    command = ["compare", small_shards, "--recipes", "custom_cnn", "--out", tmp_path / "c", *TINY]
    assert run(*command) == 0
    tracking_file = tmp_path / "c" / "runs" / "custom_cnn" / "tracking.json"
    assert not tracking_file.exists()
    assert run(*command, "--set", uri) == 0
    facts = json.loads(tracking_file.read_text())
    assert (facts["status"], facts["missing"], steps(database, facts["run_id"])) == ("FINISHED", [], [1, 2])
    assert run(*command, "--set", uri) == 0
    assert json.loads(tracking_file.read_text()) == facts
    assert run(*command, "--set", uri, "--set", "tracking.experiment=other") == 0
    other = json.loads(tracking_file.read_text())
    assert other["experiment"] == "other" and other["run_id"] != facts["run_id"]
    assert steps(database, other["run_id"]) == [1, 2], "told elsewhere, it is told whole"


def test_a_server_that_is_away_for_a_while_misses_nothing_in_the_end(database, folder, caplog):
    one = tracker(database, folder)
    one.epoch(HISTORY[:1])
    with away(database):
        one.epoch(HISTORY[:2])
        assert "the run goes on" in caplog.text
    one.epoch(HISTORY[:3])
    one.finish([*HISTORY[:-1], HISTORY[-1] | {"average_val_top1": 0.5}], "report", "bundle")
    assert steps(database, one.run_id) == [1, 2, 3, 4]
    assert client(database).get_run(one.run_id).data.metrics["average_val_top1"] == 0.5
    assert "does not have" not in tracking_line(folder)


def test_what_a_server_that_stays_away_does_not_have_is_said_and_sent_later(database, folder):
    one = tracker(database, folder)
    one.epoch(HISTORY[:1])
    with away(database):
        one.finish(HISTORY, "report", "bundle")
        assert "it does not have: metrics of epochs, final metrics, report, bundle, how the run ended; --resume sends it" in tracking_line(folder)
        again = tracker(database, folder)
        again.epoch(HISTORY[:2])
    again.finish(HISTORY, "report", "bundle")
    assert again.run_id == one.run_id
    assert client(database).get_run(one.run_id).info.status == "FINISHED"
    assert client(database).get_run(one.run_id).data.metrics["final_test_top1"] == 0.75


def test_a_run_that_goes_on_goes_on_in_its_mlflow_run(database, folder):
    first = tracker(database, folder)
    first.epoch(HISTORY[:2])
    first.end("KILLED")
    assert client(database).get_run(first.run_id).info.status == "KILLED"
    second = tracker(database, folder)
    assert second.run_id == first.run_id
    assert client(database).get_run(first.run_id).info.status == "RUNNING"
    second.epoch(HISTORY[:3])
    assert steps(database, first.run_id) == [1, 2, 3], "what it has is not sent again"
    client(database).delete_run(first.run_id)
    third = tracker(database, folder)
    assert third.run_id != first.run_id
    third.epoch(HISTORY)
    assert steps(database, third.run_id) == [1, 2, 3, 4], "all of it to a new one where the old was deleted"


def test_a_run_that_cannot_be_told_does_not_begin(small_shards, tmp_path, capsys, monkeypatch, folder):
    command = ["train", small_shards, "--recipe", "custom_cnn", "--out", tmp_path / "run", *TINY]
    assert run(*command, "--set", "tracking.mlflow=http://me:secret@127.0.0.1:9") == 2
    error = capsys.readouterr().err.strip()
    assert "tracking.mlflow=http://me:***@127.0.0.1:9" in error
    assert "secret" not in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    with pytest.raises(ConfigError, match="no-such-scheme"):
        Tracker(TrackingConfig(mlflow="no-such-scheme://x"), "tiny", folder, {})
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert run(*command, "--set", "tracking.mlflow=http://127.0.0.1:9") == 2
    assert "pip install 'prodrec[mlflow]'" in capsys.readouterr().err
