import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prodrec.config import ModelConfig, OptimConfig
from prodrec.models.layers import layers
from prodrec.models.registry import create_classifier
from prodrec.training.optim import build_optimizer, lr_factor, set_lr


@given(st.floats(0, 1), st.integers(1, 100), st.floats(0, 10), st.floats(0, 1))
def test_the_rate_stays_between_nothing_and_its_peak_and_ends_at_the_final_share(position, epochs, warmup, final):
    config = OptimConfig(warmup_epochs=warmup, final_lr_fraction=final)
    assert 0 <= lr_factor(position * epochs, epochs, config) <= 1 + 1e-9
    assert lr_factor(epochs, epochs, config) == pytest.approx(final)
    assert lr_factor(min(warmup, epochs / 5), epochs, config) == pytest.approx(1)


def test_parameter_groups_hold_every_trained_parameter_once():
    model = create_classifier(ModelConfig(arch="custom_cnn", weights="none"), 3, 32)
    optimizer = build_optimizer(model, OptimConfig(lr=0.1, backbone_lr_fraction=0.5, weight_decay=0.3))
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    for group in optimizer.param_groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] == 0.3) for p in group["params"])
    assert {group["lr"] for group in optimizer.param_groups} == {0.1, 0.05}
    set_lr(optimizer, 0.1)
    assert {round(group["lr"], 6) for group in optimizer.param_groups} == {0.01, 0.005}


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_frozen_backbone_is_left_out_and_the_head_learns(name):
    model = create_classifier(ModelConfig(arch="custom_cnn", weights="none"), 3, 32)
    model.backbone.requires_grad_(False)
    optimizer = build_optimizer(model, OptimConfig(name=name))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.eval()(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.startswith("head") for key in changed)


@pytest.mark.parametrize("arch", ["custom_cnn", "test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_layers_nearer_to_the_picture_learn_at_a_lower_rate(arch):
    model = create_classifier(ModelConfig(arch=arch, weights="none"), 3, 32)
    optimizer = build_optimizer(model, OptimConfig(lr=0.1, backbone_lr_fraction=0.5, layer_decay=0.5, weight_decay=0.3))
    rate = {id(p): group["peak_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert sorted(rate) == sorted(id(p) for p in model.parameters())
    rates = sorted({rate[id(p)] for p in model.backbone.parameters()})
    assert len(rates) >= 3
    assert rates == pytest.approx([0.05 * 0.5**n for n in range(len(rates), 0, -1)])
    named = list(model.backbone.parameters())
    assert rate[id(named[0])] == rates[0]
    assert rate[id(named[-1])] == rates[-1]
    assert {rate[id(p)] for p in model.head.parameters()} == {0.1} == {optimizer.param_groups[-1]["peak_lr"]}
    spared = {"pos_embed", "cls_token"} if arch == "test_vit" else set()
    for group in optimizer.param_groups:
        kept = {id(p) for p in group["params"]}
        names = {name for name, p in model.backbone.named_parameters() if id(p) in kept}
        if group["weight_decay"]:
            assert all(p.ndim >= 2 for p in group["params"]) and not spared & names
        else:
            assert all(p.ndim < 2 or id(p) in {id(getattr(model.backbone, name)) for name in spared} for p in group["params"])


def test_layers_are_those_of_timm():
    from timm.optim import param_groups_layer_decay

    backbone = create_classifier(ModelConfig(arch="test_vit", weights="none"), 3, 32).backbone
    scales = {id(p): group["lr_scale"] for group in param_groups_layer_decay(backbone, layer_decay=0.5) for p in group["params"]}
    for number, layer in enumerate(reversed(layers(backbone, coarse=False))):
        assert {scales[id(backbone.get_parameter(name))] for name in layer} == {0.5**number}
