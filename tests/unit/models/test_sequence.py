"""Fusing views: what is padded changes nothing, order counts for the LSTM alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import torch as safetensors

from prodrec.config import ModelConfig
from prodrec.models.registry import create_classifier
from prodrec.models.sequence import AttentionFusion, create_fusion, pad_views

FUSIONS = ("lstm", "mean", "attention")
D = 6


def fused(kind, listings):
    torch.manual_seed(0)
    return create_fusion(kind, D)(torch.cat(listings), torch.tensor([len(views) for views in listings])).detach()


def features(lengths, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, D, generator=generator) for length in lengths]


@pytest.mark.parametrize("kind", FUSIONS)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_a_listing_is_fused_alike_whatever_stands_beside_it(kind, lengths):
    listings = features(lengths)
    together = fused(kind, listings)
    for number, listing in enumerate(listings):
        torch.testing.assert_close(together[number], fused(kind, [listing])[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", FUSIONS)
@given(st.permutations(range(4)))
def test_the_order_of_the_views_counts_for_the_lstm_alone(kind, order):
    [views] = features([4])
    same = torch.allclose(fused(kind, [views[list(order)]]), fused(kind, [views]), atol=1e-6)
    assert same == (kind != "lstm" or order == sorted(order))


def test_padding_puts_each_view_in_its_place():
    listings = features([3, 1, 2])
    padded = pad_views(torch.cat(listings), torch.tensor([3, 1, 2]))
    assert padded.mask_BV.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    for row, mask, listing in zip(padded.features_BVD, padded.mask_BV, listings, strict=True):
        assert torch.equal(row[mask], listing)
        assert not row[~mask].any()


def test_attention_shares_sum_to_one_over_the_views_that_are_there():
    fusion = AttentionFusion(D)
    weights_BV = fusion.weights(pad_views(torch.cat(features([4, 1, 2])), torch.tensor([4, 1, 2])))
    torch.testing.assert_close(weights_BV.sum(1), torch.ones(3))
    assert weights_BV[1].tolist() == [1, 0, 0, 0]
    assert torch.equal(weights_BV > 0, torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]]).bool())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", FUSIONS)
def test_gradients_reach_every_view_and_parameter(kind, precision):
    model = create_classifier(ModelConfig(arch="custom_cnn", weights="none", fuse=kind), 3, 32)
    images = torch.randn(6, 3, 32, 32, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        logits = model(images, torch.tensor([1, 3, 2]))
        assert logits.shape == (3, 3)
        torch.nn.functional.cross_entropy(logits.float(), torch.tensor([0, 1, 2])).backward()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("kind", FUSIONS)
def test_images_without_lengths_are_listings_of_one_view(kind):
    model = create_classifier(ModelConfig(arch="custom_cnn", weights="none", fuse=kind), 3, 32).eval()
    images = torch.randn(4, 3, 32, 32)
    assert torch.equal(model(images), model(images, torch.ones(4, dtype=torch.int64)))
    assert not torch.allclose(model(images)[:1], model(images, torch.tensor([4])), atol=1e-4)


def test_any_backbone_can_see_the_views():
    args = {"depth": 1, "embed_dim": 48, "num_heads": 3}
    model = create_classifier(ModelConfig(arch="vit_tiny16", weights="none", fuse="lstm", head="mlp", args=args), 5, 32).eval()
    assert model(torch.randn(3, 3, 32, 32), torch.tensor([2, 1])).shape == (2, 5)


def test_a_classifier_of_images_gives_its_network_to_one_of_listings(tmp_path):
    plain = create_classifier(ModelConfig(arch="custom_cnn", weights="none"), 3, 32)
    safetensors.save_file(plain.state_dict(), tmp_path / "model.safetensors")
    config = ModelConfig(arch="custom_cnn", weights=str(tmp_path / "model.safetensors"), fuse="mean")
    fused = create_classifier(config, 3, 32)
    assert all(torch.equal(tensor, fused.backbone.state_dict()[name]) for name, tensor in plain.backbone.state_dict().items())
    assert not torch.equal(fused.head.logits.weight, plain.head.logits.weight)
    assert len(list(fused.head_parameters())) == 2
