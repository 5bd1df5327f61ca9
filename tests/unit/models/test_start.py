"""Going on from a bundle: what it knew stays, what is new starts fresh."""

import pytest
import torch
from made import few_regions

from prodrec.errors import BundleError, ConfigError
from prodrec.labels import Label
from prodrec.models.bundle import write_bundle
from prodrec.models.bundle_files import load_info, rewrite_info
from prodrec.models.bundle_info import ClassifierInfo, TaggerInfo
from prodrec.models.detectors import DETECTORS
from prodrec.models.registry import create_classifier
from prodrec.models.start import continued_recipe, starting_labels, starting_model
from prodrec.models.tagger import create_tagger
from prodrec.recipes import parse_recipe

SIZE = 128
KNOWN, MORE = [Label(name="cup"), Label(name="bowl")], [Label(name="bowl"), Label(name="jug"), Label(name="cup"), Label(name="pan")]


def recipe(kind, arch, **head):
    args = {"score_thresh": 1e-3} if arch in ("retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn") else few_regions(arch)  # untrained, they score 0.01
    early_stop = {"metric": "val_ap50" if kind == "tagger" else "val_top1"}
    return parse_recipe(
        {
            "name": "first",
            "kind": kind,
            "model": {"arch": arch, "weights": "none", "args": args} | head,
            "input": {"size": SIZE, "normalize": "zero_one"},
            "train": {"epochs": 7, "early_stop": early_stop},
        },
        "test",
    )


def write(folder, kind, arch, **head):
    chosen = recipe(kind, arch, **head)
    torch.manual_seed(1)
    facts = {"model": chosen.model, "input": chosen.input, "labels": KNOWN, "metrics": {}, "recipe": chosen.model_dump(mode="json"), "data_manifest_sha256": ""}
    if kind == "tagger":
        model, info = create_tagger(chosen.model, 2), TaggerInfo(thresholds=[0.5, 0.5], train_boxes=[1, 1], **facts)
    else:
        model = create_classifier(chosen.model, 2, SIZE)
        info = ClassifierInfo(temperature=1.0, train_counts=[1, 1], embedding_dim=model.embedding_dim, **facts)
    write_bundle(folder, model, info)
    return model.eval()


def test_labels_that_are_known_stay_in_front(tmp_path):
    write(tmp_path / "b", "classifier", "custom_cnn")
    chosen = continued_recipe(str(tmp_path / "b"), None, [])
    assert [label.name for label in starting_labels(chosen, MORE)] == ["cup", "bowl", "jug", "pan"]
    assert starting_labels(recipe("classifier", "custom_cnn"), MORE) == MORE
    titled = [label.model_copy(update={"title": f"A {label.name}"}) for label in MORE]
    assert [label.title for label in starting_labels(chosen, titled)] == ["A cup", "A bowl", "A jug", "A pan"]
    info = load_info(tmp_path / "b")
    rewrite_info(tmp_path / "b", info.model_copy(update={"labels": [KNOWN[0].model_copy(update={"title": "Cup"}), KNOWN[1]]}))
    assert [label.title for label in starting_labels(chosen, MORE)] == ["Cup", None, None, None]


def test_a_classifier_says_the_same_of_what_it_knew(tmp_path):
    before = write(tmp_path / "b", "classifier", "custom_cnn")
    after = starting_model(continued_recipe(str(tmp_path / "b"), None, []), 4).eval()
    images = torch.rand(3, 3, SIZE, SIZE)
    with torch.inference_mode():
        assert torch.allclose(after(images)[:, :2], before(images), atol=1e-6)
        assert after(images).shape == (3, 4)


def test_the_centres_of_an_arcface_head_grow_by_new_classes(tmp_path):
    head = {"head": "arcface", "head_args": {"centers": 3, "embedding_dim": 8, "margin": 0.3}}
    before = write(tmp_path / "b", "classifier", "custom_cnn", **head)
    after = starting_model(continued_recipe(str(tmp_path / "b"), None, ["model.head_args.margin=0.1"]), 4).eval()
    images = torch.rand(5, 3, SIZE, SIZE)
    with torch.inference_mode():
        (old, embedding), (new, again) = before.described(images), after.described(images)
    assert torch.allclose(new[:, :2], old, atol=1e-5)
    assert torch.equal(embedding, again)
    assert after.head.margin == 0.1
    with pytest.raises(ConfigError, match=r"model\.head_args is .*'centers': 2"):
        starting_model(continued_recipe(str(tmp_path / "b"), None, ["model.head_args.centers=2"]), 4)


@pytest.mark.parametrize("arch", DETECTORS)
def test_a_tagger_finds_the_same_while_new_labels_are_silent(arch, tmp_path, monkeypatch):
    before = write(tmp_path / "b", "tagger", arch)
    fresh = create_tagger

    def silent(*args, **kwargs):
        model = fresh(*args, **kwargs)
        for name, value in model.named_parameters():
            if name.startswith(tuple(f"detector.{prefix}" for prefix in DETECTORS[arch].head)) and name.endswith("bias") and "bbox" not in name:
                torch.nn.init.constant_(value, -1e4)
        return model

    monkeypatch.setattr("prodrec.models.start.create_tagger", silent)
    after = starting_model(continued_recipe(str(tmp_path / "b"), None, []), 4).eval()
    torch.manual_seed(2)
    images = torch.rand(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        found, again = before(images), after(images)
    assert sum(len(tags.scores_N) for tags in found)
    for old, new in zip(found, again, strict=True):
        assert torch.equal(old.labels_N, new.labels_N)
        assert torch.allclose(old.boxes_N4, new.boxes_N4, atol=1e-3)
        assert torch.allclose(old.scores_N, new.scores_N, atol=1e-6)


def test_architecture_and_input_are_the_bundles_and_the_rest_the_recipes(tmp_path):
    write(tmp_path / "b", "classifier", "custom_cnn")
    own = continued_recipe(str(tmp_path / "b"), None, ["train.epochs=3", "model.freeze_backbone=true"])
    assert (own.name, own.train.epochs, own.model.freeze_backbone, own.model.weights) == ("first", 3, True, str(tmp_path / "b"))
    other = continued_recipe(str(tmp_path / "b"), "resnet18", [])
    assert (other.name, other.model.arch, other.input.size) == ("resnet18", "custom_cnn", SIZE)
    assert other.optim != own.optim


def test_a_backbone_stays_frozen_where_the_bundle_or_the_named_recipe_freezes_it(tmp_path):
    write(tmp_path / "b", "classifier", "custom_cnn")
    info = load_info(tmp_path / "b")
    frozen = info.recipe | {"model": info.recipe["model"] | {"weights": "hub", "freeze_backbone": True}}
    rewrite_info(tmp_path / "b", info.model_copy(update={"model": info.model.model_copy(update={"freeze_backbone": True}), "recipe": frozen}))
    assert continued_recipe(str(tmp_path / "b"), None, []).model.freeze_backbone
    assert continued_recipe(str(tmp_path / "b"), "resnet50_frozen", []).model.freeze_backbone
    assert not continued_recipe(str(tmp_path / "b"), "resnet50", []).model.freeze_backbone


def test_what_does_not_fit_is_one_clear_line(tmp_path):
    write(tmp_path / "b", "classifier", "custom_cnn")
    with pytest.raises(ConfigError, match="is a classifier, and the recipe fasterrcnn_tiny trains a tagger"):
        continued_recipe(str(tmp_path / "b"), "fasterrcnn_tiny", [])
    with pytest.raises(BundleError, match="no complete bundle"):
        continued_recipe(str(tmp_path / "nothing"), None, [])
    told = [("model.arch=resnet18", r"model\.arch is resnet18"), ("input.normalize=imagenet", "trained with input.normalize=zero_one")]
    write(tmp_path / "vit", "classifier", "vit_tiny16")
    with pytest.raises(ConfigError, match=r"keep the bundle's, 128"):
        starting_model(continued_recipe(str(tmp_path / "vit"), None, ["input.size=64"]), 2)
    for override, words in told:
        with pytest.raises(ConfigError, match=words):
            starting_model(continued_recipe(str(tmp_path / "b"), None, [override]), 2)
