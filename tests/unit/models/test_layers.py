"""The first layers stay as they are: weights, batch-norm statistics, and no gradients are spent on them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import thin_settings

from prodrec.config import ModelConfig
from prodrec.errors import ConfigError
from prodrec.models.layers import layers
from prodrec.models.registry import create_classifier
from prodrec.recipes import load_recipe, recipe_names

# Number of layers of each, as docs and users count them.
LAYERS = {"custom_cnn": 3, "model_cnn": 3, "attention_cnn": 4, "test_resnet": 5, "test_vit": 7, "test_efficientnet": 6}
ARCHS = sorted({load_recipe(name).model.arch for name in recipe_names() if load_recipe(name).kind == "classifier"})


def classifier(arch, count, size=32):
    return create_classifier(ModelConfig(arch=arch, weights="none", freeze_layers=count, dropout=0.1), 4, size)


def trained(model, steps=2):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 32, 32)).logsumexp(1).sum().backward()
        optimizer.step()


@settings(max_examples=20)
@given(data=st.data())
def test_frozen_layers_keep_every_tensor_and_the_others_learn(data):
    arch = data.draw(st.sampled_from(sorted(LAYERS)))
    count = data.draw(st.integers(0, LAYERS[arch]))
    model = classifier(arch, count)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained(model)
    changed = {name.removeprefix("backbone.") for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    by_layer = layers(model.backbone)
    frozen = set().union(*by_layer[:count])
    assert not changed & frozen
    for layer in by_layer[count:]:
        assert changed & layer
    # A norm's statistics stand and fall with its weights.
    for name in before:
        path = name.removeprefix("backbone.")
        if path.endswith("running_mean") and name != path:
            assert (path in changed) == (path.replace("running_mean", "weight") not in frozen), name
    assert "head.logits.weight" in changed


@pytest.mark.parametrize("arch", LAYERS)
def test_layers_are_all_parameters_once_in_the_order_of_the_forward_pass(arch):
    backbone = classifier(arch, 0).backbone
    found = layers(backbone)
    assert len(found) == LAYERS[arch]
    assert sorted(name for layer in found for name in layer) == sorted(name for name, _ in backbone.named_parameters())
    seen = []
    for name, module in list(backbone.named_modules())[1:]:
        if own := [f"{name}.{p}" for p, _ in module.named_parameters(recurse=False)]:
            number = next(number for number, layer in enumerate(found) if own[0] in layer)
            module.register_forward_hook(lambda *_, number=number: seen.append(number))
    backbone.eval()(torch.zeros(1, 3, 32, 32))
    assert seen == sorted(seen)


@pytest.mark.parametrize("arch", ARCHS)
def test_every_architecture_of_the_recipes_tells_its_order(arch):
    recipe = load_recipe("custom_cnn", [f"model.arch={arch}", *thin_settings(arch)])
    found = layers(create_classifier(recipe.model, 3, recipe.input.size).backbone)
    assert len(found) >= 3
    assert all(found)


def test_what_cannot_be_frozen_is_one_clear_line():
    with pytest.raises(ConfigError, match="has 3 layers; freeze at most these"):
        classifier("custom_cnn", 4)
    with pytest.raises(ConfigError, match="set one of them"):
        load_recipe("resnet50", ["model.freeze_layers=2", "model.freeze_backbone=true"])
    with pytest.raises(ConfigError, match="random layers"):
        load_recipe("custom_cnn", ["model.freeze_layers=2"])
