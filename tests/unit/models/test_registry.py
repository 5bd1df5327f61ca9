import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import DropPath

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.errors import ConfigError
from prodrec.models.heads import RELU_WIDTH, create_head
from prodrec.models.registry import MODELS, check_input, create_classifier
from prodrec.recipes import load_recipe, recipe_names

# timm's own miniatures, about 0.4 million parameters each.
TINY = ["custom_cnn", "model_cnn", "attention_cnn", "test_resnet", "test_vit"]


def config(arch="custom_cnn", **fields):
    return ModelConfig(arch=arch, weights="none", **fields)


@settings(max_examples=20, deadline=None)
@given(
    arch=st.sampled_from(TINY),
    head=st.sampled_from(["linear", "relu", "mlp"]),
    num_classes=st.integers(1, 40),
    size=st.sampled_from([32, 48]),
)
def test_logits_are_one_row_an_image(arch, head, num_classes, size):
    classifier = create_classifier(config(arch, head=head), num_classes, size).eval()
    logits_BK = classifier(torch.randn(3, 3, size, size))
    assert logits_BK.shape == (3, num_classes)
    assert logits_BK.isfinite().all()


@pytest.mark.parametrize("size", [16, 17, 33, 100])
@pytest.mark.parametrize("grid", [1, 3, 4])
def test_custom_cnn_takes_any_size(size, grid):
    backbone = create_classifier(config(args={"grid": grid}), 2, size).backbone
    assert backbone(torch.randn(2, 3, size, size)).shape == (2, 32 * grid * grid)


def test_custom_cnn_has_blocks_of_12_20_and_32_filters():
    convolutions = [m for m in create_classifier(config(), 2, 32).modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [12, 20, 32]


@pytest.mark.parametrize(("kind", "widths"), [("linear", ()), ("relu", (RELU_WIDTH,)), ("mlp", (2048, 512, 64))])
def test_a_head_has_hidden_layers_of_its_widths_each_with_relu(kind, widths):
    head = create_head(kind, 7, 5, dropout=0.1)
    assert [m.out_features for m in head if isinstance(m, torch.nn.Linear)] == [*widths, 5]
    assert [name for name, m in head.named_children() if isinstance(m, torch.nn.ReLU)] == [f"relu{n + 1}" for n in range(len(widths))]


def test_model_cnn_is_three_convolutions_with_max_pooling_and_two_full_layers():
    kinds = [type(m).__name__ for m in create_classifier(config("model_cnn", head="relu"), 4, 48).modules() if not list(m.children())]
    block = ["Conv2d", "ReLU", "MaxPool2d", "Dropout2d"]
    assert kinds == [*block, *block, *block[:2], "AdaptiveMaxPool2d", "Dropout2d", "Dropout", "Linear", "ReLU", "Logits"]


@pytest.mark.parametrize("arch", TINY)
def test_channels_last_gives_the_same_logits(arch):
    classifier = create_classifier(config(arch), 4, 32).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = classifier(images)
    actual = classifier.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_backbone_does_not_change_in_training_and_a_free_one_does(frozen):
    classifier = create_classifier(config("test_resnet", freeze_backbone=frozen, dropout=0.1), 4, 32).train()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1)
    classifier(torch.randn(4, 3, 32, 32)).logsumexp(1).sum().backward()
    optimizer.step()
    changed = {name for name, value in classifier.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("head.") for name in changed)
    assert any(name.startswith("backbone.") for name in changed) != frozen
    assert classifier.head.training


@pytest.mark.parametrize("frozen", [False, True])
def test_the_parameter_groups_hold_each_trainable_parameter_once(frozen):
    classifier = create_classifier(config(freeze_backbone=frozen), 4, 32)
    groups = [id(p) for p in [*classifier.backbone_parameters(), *classifier.head_parameters()]]
    assert sorted(groups) == sorted(id(p) for p in classifier.parameters() if p.requires_grad)
    assert frozen == (not list(classifier.backbone_parameters()))


def test_own_names_are_known_to_timm_or_ours():
    assert {"custom_cnn", "resnet18", "resnet50", "vit_b16", "vit_tiny16"} <= set(MODELS)
    assert all(timm.get_pretrained_cfg(name).has_weights for name in MODELS.values() if isinstance(name, str))
    assert create_classifier(config("vit_tiny16", args={"depth": 1}), 3, 32).backbone.num_features == 192


@pytest.mark.parametrize(
    ("arch", "fields", "size", "words"),
    [
        ("resnet81", {}, 32, ["resnet81", "custom_cnn", "vit_b16", "resnet18"]),
        ("hf-hub:timm/resnet18", {}, 32, ["hf-hub:timm/resnet18", "custom_cnn"]),
        ("test_resnet.nobody", {}, 32, ["nobody", "test_resnet"]),
        ("test_vit", {}, 40, ["multiples of 16", "32 or 48"]),
        ("test_vit", {"args": {"patch_size": 64}}, 32, ["multiples of 64", "to 64"]),
        ("vit_tiny16", {"args": {"img_size": 64, "depth": 1}}, 32, ["input.size 32", "'img_size': 64"]),
        ("test_vit", {"args": {"global_pool": ""}}, 32, ["global_pool", "feature vector"]),
        ("test_resnet", {"args": {"dept": 3}}, 32, ["model.args", "'dept'"]),
        ("test_resnet", {"args": {"checkpoint_path": "x.pth"}}, 32, ["model.args.checkpoint_path", "remove it"]),
        ("custom_cnn", {"args": {"gird": 3}}, 32, ["custom_cnn", "'gird'"]),
        ("custom_cnn", {"args": {"grid": 0}}, 32, ["grid 0"]),
    ],
)
def test_what_cannot_be_built_is_one_clear_line(arch, fields, size, words):
    with pytest.raises(ConfigError) as caught:
        create_classifier(config(arch, **fields), 3, size)
    message = str(caught.value)
    assert "\n" not in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("arch", "preset"), [("resnet50", "imagenet"), ("vit_b16", "minus_one_one"), ("siglip", "minus_one_one"), ("clip", "clip"), ("dinov2", "imagenet")]
)
def test_hub_weights_ask_for_the_pixels_that_they_were_trained_with(arch, preset):
    config = ModelConfig(arch=arch)
    check_input(config, PreprocessSpec(normalize=preset, interpolation="bicubic"))
    with pytest.raises(ConfigError, match=f"input.normalize={preset}, not zero_one"):
        check_input(config, PreprocessSpec(normalize="zero_one"))
    with pytest.raises(ConfigError, match=r"input\.interpolation=bicubic, not bilinear"):
        check_input(config, PreprocessSpec(normalize=preset))
    check_input(ModelConfig(arch=arch, weights="none"), PreprocessSpec(normalize="zero_one"))


@pytest.mark.parametrize("name", [name for name, made in MODELS.items() if isinstance(made, str)])
def test_an_own_name_says_which_weights_it_means(name):
    """timm's default weights of a name change from version to version."""
    assert MODELS[name].partition(".")[2] == timm.get_pretrained_cfg(MODELS[name]).tag


@pytest.mark.parametrize("name", [name for name in recipe_names() if load_recipe(name).model.weights == "hub"])
def test_the_recipes_that_start_from_the_hub_make_pixels_as_their_weights_were_trained(name):
    recipe = load_recipe(name)
    check_input(recipe.model, recipe.input)


@pytest.mark.parametrize("arch", ["test_resnet", "test_convnext", "test_vit", "efficientnet_b0"])
def test_stochastic_depth_reaches_the_model_and_drops_while_training_only(arch):
    torch.manual_seed(0)
    model = create_classifier(config(arch, args={"drop_path_rate": 0.5}), 3, 32)
    rates = [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]
    assert max(rates) == pytest.approx(0.5, abs=0.2)
    assert min(rates) < max(rates)
    images = torch.randn(1, 3, 32, 32).repeat(16, 1, 1, 1)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            if parameter.ndim == 1:  # some begin at 0, so that the blocks begin as identities
                parameter.fill_(1)
    for module in model.train().modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    assert model(images).std(0).max() > 1e-5
    assert model.eval()(images).std(0).max() < 1e-5
