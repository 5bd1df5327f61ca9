import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prodrec.models.attention import REDUCTION, AttentionBlock, AttentionCNN, ChannelAttention, SpatialAttention


@settings(max_examples=6)
@given(st.integers(16, 100))
def test_any_size_gives_one_vector_and_a_map_of_a_sixteenth(size):
    network, images = AttentionCNN().eval(), torch.randn(1, 3, size, size)
    cells = -(-size // 16)
    with torch.inference_mode():
        assert network(images).shape == (1, 256)
        assert network.attention_map(images).shape == (1, cells, cells)


def test_the_map_is_the_gates_that_the_last_block_took():
    torch.manual_seed(0)
    network, taken = AttentionCNN().eval(), []
    network.stages[-1][-1].spatial.register_forward_hook(lambda _module, _inputs, gates: taken.append(gates))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        found = network.attention_map(images)
    assert torch.equal(found, taken[0][:, 0])
    assert ((found > 0) & (found < 1)).all()
    assert found.std() > 0


def test_channel_gates_weigh_mean_and_maximum_by_one_network():
    attention, features = ChannelAttention(2 * REDUCTION * 8), torch.randn(2, 2 * REDUCTION * 8, 5, 7)
    first, second = attention.mlp[0].weight[:, :, 0, 0], attention.mlp[2].weight[:, :, 0, 0]
    parts = [(pooled @ first.T).relu() @ second.T for pooled in (features.mean((2, 3)), features.flatten(2).max(2).values)]
    torch.testing.assert_close(attention(features)[:, :, 0, 0], torch.sigmoid(parts[0] + parts[1]), rtol=1e-4, atol=1e-5)
    assert first.shape[0] == 2 * 8, "the bottleneck is a sixteenth"


def test_spatial_gates_follow_the_place():
    """What is moved on the picture moves the gates with it, and nothing beyond the kernel's reach sees it."""
    torch.manual_seed(0)
    attention = SpatialAttention().eval()
    features = torch.zeros(2, 8, 32, 32)
    features[0, :, 10, 12] = 3.0
    features[1, :, 14, 15] = 3.0
    gates = attention(features)[:, 0]
    torch.testing.assert_close(gates[0, 7:14, 9:16], gates[1, 11:18, 12:19])
    changed = gates[0] != gates[0, 0, 0]
    assert changed[7:14, 9:16].any()
    assert not changed[:7].any() and not changed[14:].any() and not changed[:, :9].any() and not changed[:, 16:].any()


@pytest.mark.parametrize("part", ["channel", "spatial"])
def test_closed_gates_leave_the_shortcut_alone(part):
    block = AttentionBlock(8, 8, 1).eval()
    shut = torch.zeros(1, 8, 1, 1) if part == "channel" else torch.zeros(1, 1, 9, 9)
    features = torch.rand(1, 8, 9, 9)
    assert not torch.equal(block(features)[0], features)
    getattr(block, part).register_forward_hook(lambda *_: shut)
    assert torch.equal(block(features)[0], features)
