"""Every classifier by its recipe: a step in one process reaches every weight, and two processes (no launcher) stay in step."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from made import thin_settings

from prodrec.recipes import load_recipe, recipe_names
from prodrec.shards.reading import open_shards
from prodrec.training.context import LocalContext
from prodrec.training.loop import Trainer

QUICK = ["train.batch_size=12", "train.precision=fp32", "train.ema_decay=0", "data.threads=1", "data.limit=20", "augment.policy=light", "optim.warmup_epochs=0"]
# Heads on features have no loop (test_fit_run.py); listings have shards of their own (test_sequence_run.py, tests/ray/test_listings.py).
RECIPES = {name: recipe for name in recipe_names() if (recipe := load_recipe(name)).kind == "classifier" and not recipe.fit and not recipe.model.fuse}
ARCHS = {recipe.model.arch: name for name, recipe in RECIPES.items()}

RANK = textwrap.dedent("""
    import json
    import os
    import sys
    from datetime import timedelta
    from pathlib import Path

    import torch
    from torch import distributed

    from prodrec.shards.reading import open_shards
    from prodrec.recipes import load_recipe
    from prodrec.training.context import LocalContext
    from prodrec.training.loop import Trainer

    class Silent:
        def progress(self, progress):
            pass

    shards, meeting, rank, settings = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    for name, overrides in settings.items():
        context = LocalContext(Path(meeting).parent, 1, torch.device("cpu"), Silent())
        context.rank, context.world_size = rank, 2
        trainer = Trainer(load_recipe(name, overrides), open_shards(shards), context)
        sums = trainer._train_epoch(1, trainer.feed([trainer.train_pass(1)]))
        trained = [float(p.detach().double().sum()) for p in trainer.task.parameters()]
        predictions = trainer.predict("val")
        print(json.dumps({"name": name, "sums": sums.tolist(), "trained": trained, "rows": predictions.rows.tolist(), "best": predictions.predicted.tolist()}))
        del trainer
    # Gloo's threads end here: those that are left at the interpreter's end now and then abort the process ("terminate called ...").
    distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # even so threads of gloo abort the interpreter's end now and then
""")


class Silent:
    def progress(self, progress):
        pass


def settings(name: str) -> list[str]:
    return [*QUICK, *thin_settings(RECIPES[name].model.arch)]


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_of_each_recipe_reaches_every_weight(small_shards, tmp_path, name):
    trainer = Trainer(load_recipe(name, settings(name)), open_shards(small_shards), LocalContext(tmp_path, 1, torch.device("cpu"), Silent()))
    batch = next(iter(trainer.batches(trainer.train_pass(1))))
    before = {name: value.detach().clone() for name, value in trainer.task.model.named_parameters()}
    sums = trainer.learner.step(batch, 0.5)
    assert sums.isfinite().all()
    assert sums[2] == len(batch.targets)
    unused = [name for name, value in trainer.task.model.named_parameters() if value.grad is None or not value.grad.isfinite().all()]
    assert unused == []
    changed = [name for name, value in trainer.task.model.named_parameters() if not torch.equal(value, before[name])]
    assert {name.split(".")[0] for name in changed} == {"backbone", "head"}
    assert trainer.predict("val").topk_logits.shape == (4, 4)


def test_every_architecture_takes_the_same_steps_on_both(small_shards, tmp_path):
    names = sorted(ARCHS.values())
    command = [sys.executable, "-c", RANK, small_shards, str(tmp_path / "meeting")]
    env, chosen = os.environ | {"OMP_NUM_THREADS": "1"}, json.dumps({name: settings(name) for name in names})
    ranks = [subprocess.Popen([*command, str(rank), chosen], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) for rank in range(2)]
    answers = [rank.communicate(timeout=300) for rank in ranks]
    for rank, (_, err) in zip(ranks, answers, strict=True):
        assert rank.returncode == 0, err[-2000:]
    told = [[json.loads(line) for line in out.splitlines()] for out, _ in answers]
    assert [row["name"] for row in told[0]] == names
    rows = open_shards(small_shards).limited(20).split("train").rows
    for one, other in zip(*told, strict=True):
        assert one == other, "sums, weights and predictions are the same on both"
        assert one["sums"][0] > 0
        repeats = RECIPES[one["name"]].balance.sampling == "over"
        assert one["sums"][2] > rows if repeats else one["sums"][2] == rows, f"each row of {one['name']} once, or as often as it is repeated"
        assert one["rows"] == [0, 1, 2, 3]
