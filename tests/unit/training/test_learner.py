"""One step: in parts, on two ranks, without memory, and with a gradient that is not finite."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from prodrec.config import PreprocessSpec
from prodrec.errors import ConfigError
from prodrec.images.objects import Objects
from prodrec.models.tasks import WEIGHT, ClassificationTask, N
from prodrec.recipes import parse_recipe
from prodrec.shards.stream import Batch
from prodrec.training.context import LocalContext
from prodrec.training.learner import Learner

CLASSES, ROWS = 4, 24


class Plain(nn.Module):
    """A network without batch norm: images do not see each other in it."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(32, CLASSES)

    def forward(self, images_BCHW):
        return self.head(self.backbone(images_BCHW))

    def backbone_parameters(self):
        return self.backbone.parameters()

    def head_parameters(self):
        return self.head.parameters()


class Normed(Plain):
    def __init__(self):
        super().__init__()
        self.backbone.insert(1, nn.BatchNorm2d(8))


def learner(model=Plain, rank=0, world_size=1, optim=(), weights=(0.1, 1.0, 3.0, 10.0), **train):
    tree = {
        "name": "tiny",
        "model": {"arch": "custom_cnn", "weights": "any"},
        "optim": {"lr": 0.05, "clip_norm": None, "label_smoothing": 0.1, "warmup_epochs": 0} | dict(optim),
        "train": {"precision": "fp32", "batch_size": ROWS} | train,
    }
    context = LocalContext(Path("/nowhere"), 1, torch.device("cpu"), None)
    context.rank, context.world_size = rank, world_size
    torch.manual_seed(0)
    return Learner(ClassificationTask(model(), PreprocessSpec(size=16), torch.tensor(weights), 0.1, channels_last=True), parse_recipe(tree, "test"), context)


def batch(rows=slice(None)):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (ROWS, 3, 16, 16), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (ROWS,), generator=generator)
    return Batch(images[rows], labels[rows], torch.arange(ROWS)[rows])


def stepped(made, rows=slice(None), steps=3):
    sums = [made.step(batch(rows), 0.5) for _ in range(steps)]
    return sums[-1], torch.cat([p.detach().flatten() for p in made.task.parameters()])


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("micro_batch", [1, 5, 8, 100])
def test_a_step_in_parts_is_that_of_the_whole_batch(micro_batch, name):
    optim = {"name": name, "clip_norm": 0.5}
    whole, parts = learner(optim=optim), learner(optim=optim, micro_batch=micro_batch)
    seen = []
    parts.task.model.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    expected, found = stepped(whole), stepped(parts)
    assert max(seen) <= micro_batch
    assert sum(seen) == 3 * ROWS
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


RANK = textwrap.dedent("""
    import importlib.util
    import json
    import sys
    from datetime import timedelta

    import torch
    from torch import distributed

    spec = importlib.util.spec_from_file_location("learning", sys.argv[1])
    learning = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(learning)
    rank = int(sys.argv[3])
    distributed.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    own = slice(0, 11) if rank == 0 else slice(11, None)  # of unequal sizes and weights
    told = []
    for micro_batch in (None, 4):
        made = learning.learner(rank=rank, world_size=2, micro_batch=micro_batch, optim={"clip_norm": 0.5})
        told.append([each.tolist() for each in learning.stepped(made, own)])
    if rank == 1:
        made.task.model.head.register_full_backward_hook(lambda module, before, after: (before[0] * float("inf"),))
    told.append([each.tolist() for each in learning.stepped(made, own, 1)])
    print(json.dumps(told))
    distributed.destroy_process_group()  # else its threads abort the interpreter's end now and then
""")


def test_two_ranks_take_the_step_of_one_in_parts_too_and_agree_on_what_they_leave_out(tmp_path):
    command = [sys.executable, "-c", RANK, __file__, str(tmp_path / "meeting")]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    ranks = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) for rank in range(2)]
    answers = [rank.communicate(timeout=300) for rank in ranks]
    for rank, (_, err) in zip(ranks, answers, strict=True):
        assert rank.returncode == 0, err[-2000:]
    one, other = (json.loads(out) for out, _ in answers)
    assert one[:2] == other[:2]
    sums, weights = stepped(learner(optim={"clip_norm": 0.5}))
    for found_sums, found_weights in one[:2]:
        torch.testing.assert_close(torch.tensor(found_sums, dtype=torch.float64), sums, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.tensor(found_weights), weights, rtol=1e-4, atol=1e-5)
    for (before_sums, before), (after_sums, after) in ((one[1], one[2]), (other[1], other[2])):
        assert before == after, "the gradient of one rank was not finite: neither took the step"
        assert after_sums[N] == before_sums[N] == ROWS
    assert not any(torch.tensor(told[2][0][-1]).isfinite() for told in (one, other))


@pytest.mark.parametrize("optim", [{"name": "adamw"}, {"name": "sgd"}, {"name": "sgd", "momentum": 0.0}])
def test_a_step_whose_gradient_is_not_finite_changes_nothing_even_if_it_is_the_first(optim):
    undisturbed, made = learner(optim=optim), learner(optim=optim)
    before = torch.cat([p.detach().flatten() for p in made.task.parameters()])
    hook = made.task.model.head.register_full_backward_hook(lambda module, grad_in, grad_out: (grad_in[0] * float("nan"),))
    norm, after = stepped(made, steps=2)
    assert not norm[-1].isfinite()
    assert torch.equal(before, after)
    hook.remove()
    for one, other in zip(stepped(made), stepped(undisturbed), strict=True):
        assert torch.equal(one, other)


def test_what_a_step_tells_is_the_norm_before_clipping_and_the_plain_loss():
    made = learner(optim={"clip_norm": 1e-3})
    sums = made.step(batch(), 0.5)
    again = learner()
    logits = again.task.model(again.task.normalizer(batch().images).contiguous(memory_format=torch.channels_last))
    labels, weights = batch().targets, again.task.class_weights
    smoothed = nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none") * weights[labels]
    (smoothed.sum() / weights[labels].sum()).backward()
    assert float(sums[-1]) == pytest.approx(float(nn.utils.get_total_norm([p.grad for p in again.task.parameters()])), rel=1e-5)
    plain = dict(zip(made.task.names, sums[N + 1 : -1].tolist(), strict=True))["nll"]
    assert plain == pytest.approx(float(nn.functional.cross_entropy(logits.detach(), labels, reduction="sum")), rel=1e-5)
    assert float(sums[WEIGHT]) == pytest.approx(float(weights[labels].sum()))


def test_objects_of_pictures_are_cut_with_them():
    counts = torch.tensor([2, 0, 1, 3])
    objects = Objects(torch.arange(24).float().view(6, 4), torch.arange(6), torch.zeros(6).bool(), counts, torch.zeros(4, 4), torch.ones(4, 2))
    parts = Batch(torch.zeros(4, 3, 2, 2), objects, torch.arange(4)).parts(3)
    assert [part.targets.labels_M.tolist() for part in parts] == [[0, 1], [], [2, 3, 4, 5]]
    assert [len(part.targets) for part in parts] == [len(part.images) for part in parts] == [1, 1, 2]
    whole = Objects.joined([part.targets for part in parts])
    assert torch.equal(whole.boxes_M4, objects.boxes_M4)
    assert torch.equal(whole.counts_B, counts)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_where_memory_runs_out_the_error_says_what_helps(error):
    made = learner(micro_batch=12)

    def full(*inputs):
        raise error

    made.task.model.register_forward_pre_hook(full)
    with pytest.raises(
        ConfigError, match=r"12 images at once .*train\.micro_batch=6.*lower train\.batch_size or input\.size, set train\.precision=bf16"
    ) as told:
        made.step(batch(), 0.5)
    assert "\n" not in str(told.value)


def test_other_errors_of_a_step_stay_what_they_are():
    made = learner()
    made.task.model.register_forward_pre_hook(lambda module, inputs: inputs[0].reshape(7, 7))
    with pytest.raises(RuntimeError, match="shape"):
        made.step(batch(), 0.5)


def test_frozen_statistics_stay_and_the_rest_of_batch_norm_learns():
    made = learner(Normed, freeze_bn=True)
    norm = next(module for module in made.task.modules() if isinstance(module, _BatchNorm))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    stepped(made)
    changed = {name for name, value in norm.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"weight", "bias"}
    made.start_epoch(2)
    assert not norm.training


@pytest.mark.parametrize(
    ("train", "told"),
    [({"micro_batch": 8}, "8 images at a time"), ({"batch_size": 12}, "12 images"), ({}, None), ({"micro_batch": 8, "freeze_bn": True}, None)],
)
def test_batch_norm_with_too_few_images_is_told(train, told, caplog):
    learner(Normed, **train)
    assert (told in caplog.text) if told else not caplog.text
    learner(Plain, **train)
    assert len(caplog.records) == (told is not None), "a network without it has no such trouble"


def test_shared_statistics_need_gpus():
    with pytest.raises(ConfigError, match="sync_batchnorm needs GPUs"):
        learner(Normed, sync_batchnorm=True)
