"""Every detector by its recipe: one process from training to an answer, and two processes (no launcher) in step."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
from made import few_regions, run, scene

from prodrec.models.detectors import DETECTORS
from prodrec.recipes import load_recipe

RANK = textwrap.dedent("""
    import json
    import os
    import sys
    from datetime import timedelta
    from pathlib import Path

    import torch
    from torch import distributed

    from prodrec.shards.reading import open_shards
    from prodrec.recipes import parse_recipe
    from prodrec.training.context import LocalContext
    from prodrec.training.loop import Trainer

    class Silent:
        def progress(self, progress):
            pass

    shards, meeting, rank, archs = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    for arch, args in archs.items():
        tree = {"name": "x", "kind": "tagger", "model": {"arch": arch, "weights": "none", "args": args}, "input": {"size": 64, "resize": "pad"}}
        tree |= {"train": {"batch_size": 8, "precision": "fp32", "early_stop": {"metric": "val_ap50"}}, "data": {"threads": 1, "limit": 20}}
        context = LocalContext(Path(meeting).parent, 1, torch.device("cpu"), Silent())
        context.rank, context.world_size = rank, 2
        trainer = Trainer(parse_recipe(tree, "test"), open_shards(shards), context)
        sums = trainer._train_epoch(1, trainer.feed([trainer.train_pass(1)]))
        trained = [float(p.detach().double().sum()) for p in trainer.task.parameters()]
        pictures = [picture.row for picture in trainer.predict("val").pictures]
        print(json.dumps({"arch": arch, "sums": sums.tolist(), "trained": trained, "pictures": pictures}))
        del trainer
    # Gloo's threads end here: those that are left at the interpreter's end now and then abort the process ("terminate called ...").
    distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # even so threads of gloo abort the interpreter's end now and then
""")


def test_every_detector_takes_the_same_steps_on_both(box_shards, tmp_path):
    archs = json.dumps({arch: few_regions(arch) for arch in DETECTORS})
    command = [sys.executable, "-c", RANK, box_shards, str(tmp_path / "meeting")]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [subprocess.Popen([*command, str(rank), archs], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) for rank in range(2)]
    answers = [rank.communicate(timeout=300) for rank in ranks]
    for rank, (_, err) in zip(ranks, answers, strict=True):
        assert rank.returncode == 0, err[-2000:]
    told = [[json.loads(line) for line in out.splitlines()] for out, _ in answers]
    assert [row["arch"] for row in told[0]] == list(DETECTORS)
    for one, other in zip(*told, strict=True):
        assert one == other, "sums, weights and predictions are the same on both"
        assert one["sums"][0] == one["sums"][2] == 12, "each of the 12 rows once"
        assert one["pictures"] == list(range(len(one["pictures"])))


@pytest.mark.parametrize("name", ["fasterrcnn", "fasterrcnn_mobile", "retinanet", "fcos", "ssdlite"])
def test_a_recipe_from_training_to_an_answer(box_shards, tmp_path, name):
    arch = load_recipe(name).model.arch
    settings = [
        "model.weights=none",
        "input.size=64",
        "train.epochs=1",
        "train.batch_size=4",
        "data.limit=20",
        "data.threads=1",
        "optim.lr=0.0001",
        "train.precision=fp32",
    ]
    settings += [f"model.args={json.dumps(few_regions(arch))}"]
    options = [part for setting in settings for part in ("--set", setting)]
    assert run("train", box_shards, "--recipe", name, "--out", tmp_path / "run", "--local", "--freeze", 0, *options) == 0
    entry = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert entry["images"] == 12
    assert entry["train_loss"] == pytest.approx(sum(entry[f"train_{part}"] for part in DETECTORS[arch].losses), rel=1e-4)
    assert run("evaluate", tmp_path / "run" / "bundle", box_shards, "--out", tmp_path / "e") == 0
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["n"] == 12
    (tmp_path / "a.jpg").write_bytes(scene(3)[0])
    assert run("recognize", tmp_path / "a.jpg", "--tagger", tmp_path / "run" / "bundle", "--draw", tmp_path / "a.png") == 0
    assert (tmp_path / "a.png").stat().st_size > 0
