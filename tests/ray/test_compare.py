"""Recipes side by side on one Ray: each a run as `prodrec train` leaves it, and one that fails costs the others nothing."""

import json

from made import run

TINY = ["--set", "train.epochs=2", "--set", "input.size=32", "--set", "train.batch_size=16", "--set", "data.threads=1", "--set", "optim.lr=0.005"]


def test_two_recipes_train_at_once_beside_one_that_fails(small_shards, tmp_path, capsys):
    (tmp_path / "slim.yaml").write_text("model: {arch: custom_cnn, weights: none, args: {grid: 2}}")
    (tmp_path / "broken.yaml").write_text("model: {arch: custom_cnn, weights: /no/such.pth}")
    recipes = f"custom_cnn,{tmp_path / 'broken.yaml'},{tmp_path / 'slim.yaml'}"
    command = ["compare", small_shards, "--recipes", recipes, "--out", tmp_path / "out", "--at-once", 2, *TINY]
    assert run(*command) == 0
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert {row["name"] for row in found["runs"]} == {"custom_cnn", "slim"}
    assert found["failed"][0]["name"] == "broken"
    assert "/no/such.pth" in found["failed"][0]["reason"]
    lines = capsys.readouterr().out.splitlines()
    told = [line.split()[0] for line in lines if "  epoch " in line]
    assert sorted(told) == ["custom_cnn"] * 2 + ["slim"] * 2
    # Again: nothing is trained, and Ray is not asked for it.
    assert run(*command[:3], "custom_cnn", *command[4:]) == 0
