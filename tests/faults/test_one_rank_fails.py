"""Two processes without a launcher; what one of them alone finds wrong ends both."""

import os
import subprocess
import sys
import textwrap

RANK = textwrap.dedent("""
    import os
    import sys
    from datetime import timedelta
    from pathlib import Path

    import torch
    from torch import distributed

    from prodrec.shards.reading import open_shards
    from prodrec.errors import TrainingError
    from prodrec.recipes import parse_recipe
    from prodrec.training.context import LocalContext
    from prodrec.training.loop import Trainer

    shards, meeting, rank = sys.argv[1], sys.argv[2], int(sys.argv[3])
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    recipe = parse_recipe({"name": "tiny", "model": {"arch": "custom_cnn", "weights": "none"}, "input": {"size": 32}, "data": {"threads": 1}}, "test")
    context = LocalContext(Path(meeting).parent, 1, torch.device("cpu"), None)
    context.rank, context.world_size = rank, 2
    trainer = Trainer(recipe, open_shards(shards), context)
    if rank == 1:
        with torch.no_grad():
            next(trainer.task.model.head_parameters()).fill_(float("nan"))
    try:
        trainer.predict("val")
    except TrainingError as error:
        print("stopped:", error)
    distributed.destroy_process_group()  # else its threads abort the interpreter's end now and then
    sys.stdout.flush()
    os._exit(0)  # even so threads of gloo abort the interpreter's end now and then
""")


def test_a_rank_that_alone_finds_logits_that_are_not_finite_does_not_leave_the_other_waiting(small_shards, tmp_path):
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, small_shards, str(tmp_path / "meeting"), str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    answers = [rank.communicate(timeout=120) for rank in ranks]
    for rank, (out, err) in zip(ranks, answers, strict=True):
        assert rank.returncode == 0, err
        assert out.startswith("stopped:"), err
        assert "finite" in out
