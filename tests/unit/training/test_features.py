"""Features beside the shards: equal to what a bundle computes, found again, and whole or not there."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from made import build_shards

from prodrec.errors import TrainingError
from prodrec.evaluation.judging import predicted
from prodrec.files import Folder
from prodrec.models import scorer
from prodrec.models.bundle import load_bundle, write_bundle
from prodrec.models.bundle_info import ClassifierInfo
from prodrec.models.registry import create_classifier
from prodrec.recipes import parse_recipe
from prodrec.shards.reading import open_shards
from prodrec.training import features
from prodrec.training.embedding import embed_here
from prodrec.training.features import feature_facts, plan_features
from prodrec.training.fit_run import begun

CPU = torch.device("cpu")


def recipe(**sections):
    tree = {
        "name": "fit",
        "model": {"arch": "custom_cnn", "weights": "none"},
        "input": {"size": 32, "resize": "crop"},
        "fit": {"heads": ["linear"], "weight_decays": [0.1], "random_backbone": True},
    }
    return parse_recipe(tree | {name: tree.get(name, {}) | values for name, values in sections.items()}, "test")


@pytest.fixture
def shards(small_shards, tmp_path):
    """A copy, which features may be written beside; parts of 16 rows, so that there are several."""
    shutil.copytree(small_shards, tmp_path / "shards", ignore=shutil.ignore_patterns("features"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "PART_ROWS", 16)
        yield tmp_path / "shards"


def planned(shards, run, chosen=None):
    with begun(chosen or recipe(), open_shards(str(shards)), Folder(run).make(), CPU) as found:
        return found


def embedded(shards, run, chosen=None):
    """The plan of a run, done, and the rows of the files that were made for it."""
    plan, backbone = planned(shards, run, chosen)
    made = []
    embed_here(plan, backbone, CPU, 1, made.append)
    return plan, made


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_are_those_that_a_bundle_computes_while_it_is_judged(shards, tmp_path, precision):
    chosen = recipe(train={"precision": precision})
    plan, _ = embedded(shards, tmp_path / "run", chosen)
    there = open_shards(str(shards))
    torch.manual_seed(0)
    model = create_classifier(chosen.model, len(there.manifest.labels), 32)
    counts = there.class_counts("train").tolist()
    info = ClassifierInfo(
        model=chosen.model,
        input=chosen.input,
        labels=there.manifest.labels,
        metrics={},
        recipe=chosen.model_dump(mode="json"),
        data_manifest_sha256="",
        temperature=1.0,
        train_counts=counts,
    )
    write_bundle(tmp_path / "bundle", model, info)
    bundle, seen = load_bundle(tmp_path / "bundle"), []
    bundle.model.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output))
    predicted(bundle, there, "train", CPU)
    served = torch.cat(seen)
    kept = plan.read("train")
    assert kept.shape == served.shape
    assert plan.manifest().dtype == str(served.dtype).removeprefix("torch.")
    # Batches are cut elsewhere, and kernels sum in another order for another batch: one step of the type at most.
    assert torch.allclose(kept, served.float(), rtol=1e-5 if precision == "fp32" else 2**-7, atol=1e-6 if precision == "fp32" else 1e-2)
    assert kept.std() > 0.01


def test_a_second_run_with_another_head_embeds_nothing(shards, tmp_path):
    first, made = embedded(shards, tmp_path / "a")
    assert sum(made) == 120 and max(made) == 16
    other = recipe(fit={"heads": ["mlp"], "weight_decays": [3.0], "random_backbone": True}, optim={"lr": 0.5}, train={"epochs": 3}, balance={"beta": 0.5})
    second, made_again = embedded(shards, tmp_path / "b", other)
    assert made_again == []
    assert second.uri == first.uri
    assert first.uri.startswith(str(shards))


def test_what_features_depend_on_is_in_their_key(shards, tmp_path):
    there = open_shards(str(shards))
    changes = [
        {"model": {"arch": "resnet18"}},
        {"model": {"args": {"dropout": 0.1}}},
        {"input": {"size": 48}},
        {"input": {"resize": "squash"}},
        {"input": {"normalize": "zero_one"}},
        {"input": {"interpolation": "bicubic"}},
    ]
    facts = [feature_facts(recipe(**change), there, "w", "bf16") for change in [{}, *changes]]
    facts += [feature_facts(recipe(), there, "v", "bf16"), feature_facts(recipe(), there, "w", "fp32"), feature_facts(recipe(), there.limited(60), "w", "bf16")]
    other = open_shards(build_shards(tmp_path / "other", {"red": 20, "green": 20}))
    facts += [feature_facts(recipe(), other, "w", "bf16"), feature_facts(recipe(), replace(there, manifest_sha256="of other images"), "w", "bf16")]
    assert len({json.dumps(each, sort_keys=True) for each in facts}) == len(facts)
    places = {embedded(shards, tmp_path / "run", recipe(train={"seed": seed}))[0].uri for seed in (0, 1)}
    assert len(places) == 2, "other random weights"


def test_half_of_the_features_are_not_taken_for_all(shards, tmp_path):
    plan, _ = embedded(shards, tmp_path / "a")
    whole = plan.read("train")
    folder = Folder(plan.uri)
    names = [part.name for part in plan.parts()]
    folder.delete("manifest.json")
    folder.delete(names[0])
    folder.filesystem.open_output_stream(folder.within(names[1])).write(b"PAR1 and no more")
    assert plan.manifest() is None
    again, made = embedded(shards, tmp_path / "b")
    assert made == [16, 16], "what is whole is used"
    assert torch.equal(again.read("train"), whole)
    folder.delete(names[2])
    assert embedded(shards, tmp_path / "c")[1] == [16], "a manifest alone is no proof"


def test_where_shards_cannot_be_written_features_lie_in_the_run(shards, tmp_path):
    (shards / "features").write_text("a file in the way")
    plan, made = embedded(shards, tmp_path / "run")
    assert plan.uri.startswith(str(tmp_path / "run" / "features"))
    assert sum(made) == 120
    assert embedded(shards, tmp_path / "run")[1] == []


def test_two_runs_at_once_leave_one_whole_set(shards, tmp_path):
    plans = [planned(shards, tmp_path / name) for name in "ab"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda each: embed_here(*each, CPU, 1, lambda rows: None), plans))
    first, second = (plan.read("train") for plan, _ in plans)
    assert torch.equal(first, second)
    assert not [name for name in Folder(plans[0][0].uri).names() if name.base_name.endswith(".part")]
    assert plan_features(recipe(), open_shards(str(shards)), plans[0][1], Folder(tmp_path), CPU).missing() == []


def test_cpus_with_and_without_bf16_share_no_features(shards, tmp_path, monkeypatch):
    """The key had the precision asked for: a node without bf16 added float32 files to a folder of bf16 ones, which could never be completed."""
    asked = recipe(train={"precision": "bf16"})
    places = {}
    for has_bf16 in (True, False):
        monkeypatch.setattr(scorer, "_cpu_computes_bf16", lambda has=has_bf16: has)
        places[has_bf16] = planned(shards, tmp_path / "run", asked)
    assert places[True][0].uri != places[False][0].uri
    assert [places[True][0].precision, places[False][0].precision] == ["bf16", "fp32"]
    with pytest.raises(TrainingError, match="this node has no bf16 arithmetic"):
        embed_here(*places[True], CPU, 1, lambda rows: None)
    embed_here(*places[False], CPU, 1, lambda rows: None)
    assert places[False][0].manifest().dtype == "float32"
