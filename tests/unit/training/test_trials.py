import csv

import pytest
import yaml

from prodrec.errors import ConfigError, TrainingError
from prodrec.files import Folder
from prodrec.recipes import load_recipe
from prodrec.shards.reading import open_shards
from prodrec.training.records import write_history
from prodrec.training.trials import Trial, enter_trials, is_over, mark_stopped, note_failure, outcome, ranked, winner, write_recipe, write_table


def test_a_table_has_the_best_first_and_names_what_each_changed(tmp_path):
    trials = [
        Trial(0, {}, "finished", 9, 8, 0.70, 10.0),
        Trial(1, {"optim.lr": 0.01}, "stopped", 2, 2, 0.90, 2.0),
        Trial(2, {"augment.mix": 0.5, "optim.lr": 0.002}, "finished", 9, 9, 0.75, 11.0),
        Trial(3, {"augment.mix": 0.25}, "failed", 0, None, None, 0.0),
        Trial(4, {}, "finished", 9, 9, 0.75, 11.0),
    ]
    assert [one.number for one in ranked(trials, "val_top1")] == [2, 4, 0, 1, 3]
    assert [one.number for one in ranked(trials, "val_loss")] == [0, 2, 4, 1, 3]
    assert winner(trials, "val_top1").number == 2
    with pytest.raises(TrainingError, match="no trial has finished"):
        winner([trials[1], trials[3]], "val_top1")
    write_table(Folder(tmp_path), trials, "val_top1")
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert rows[0] | {"trial": "2", "val_top1": "0.75", "optim.lr": "0.002", "augment.mix": "0.5"} == rows[0]
    assert rows[-1]["val_top1"] == "" and rows[2]["optim.lr"] == ""


def test_what_became_of_a_trial_is_read_from_its_folder(small_shards, tmp_path):
    shards, recipe = open_shards(small_shards), load_recipe("custom_cnn", ["train.epochs=3"])
    settings, entries = enter_trials(recipe, 3, 0, shards, str(tmp_path))
    assert [outcome(number, settings[number], one).status for number, one in enumerate(entries)] == ["begun"] * 3
    write_history(entries[1].run, [{"epoch": 1, "val_top1": 0.4, "seconds": 2.0}, {"epoch": 2, "val_top1": 0.3, "seconds": 2.0}])
    mark_stopped(entries[1])
    assert is_over(entries[1]) and outcome(1, settings[1], entries[1]) == Trial(1, settings[1], "stopped", 2, 1, 0.4, 4.0)
    note_failure(entries[2], "no weights")
    mark_stopped(entries[2])
    assert outcome(2, settings[2], entries[2]).status == "failed" and not is_over(entries[2]), "it is tried again"
    assert enter_trials(recipe, 4, 0, shards, str(tmp_path))[0][:3] == settings, "more of them go on"
    with pytest.raises(ConfigError, match="another recipe, --seed or --set"):
        enter_trials(recipe, 3, 1, shards, str(tmp_path))


def test_the_best_recipe_can_be_named_again(tmp_path):
    recipe = load_recipe("custom_cnn", ["optim.lr=0.0123", "augment.mix=0.25"])
    write_recipe(Folder(tmp_path), recipe, "custom_cnn-tuned")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe.model_copy(update={"name": "custom_cnn-tuned"})
    assert "tracking" not in yaml.safe_load((tmp_path / "recipe.yaml").read_text())


def test_what_cannot_be_tuned_is_told(small_shards, box_shards, tmp_path):
    with pytest.raises(ConfigError, match="fits heads, of which it tries several itself"):
        enter_trials(load_recipe("embed_then_fit"), 3, 0, open_shards(small_shards), str(tmp_path))
