from pathlib import Path

import pytest
import torch

from prodrec.errors import OutputError, UserError
from prodrec.training.checkpoint import is_complete, optimizer_tensors, read_checkpoint, restore_optimizer, write_checkpoint


def test_sections_come_back_bit_for_bit_even_where_they_share_memory(tmp_path):
    weights = torch.randn(3, 4, 5, 5).to(memory_format=torch.channels_last)
    write_checkpoint(tmp_path / "c", {"model": {"w": weights}, "best": {"w": weights}}, {"history": [{"epoch": 1, "loss": 0.5}]})
    sections, facts = read_checkpoint(tmp_path / "c")
    assert torch.equal(sections["model"]["w"], weights)
    assert torch.equal(sections["best"]["w"], weights)
    assert facts == {"history": [{"epoch": 1, "loss": 0.5}]}


@pytest.mark.parametrize("damage", ["state.json", "state.safetensors"])
def test_half_a_checkpoint_is_not_one(tmp_path, damage):
    write_checkpoint(tmp_path, {"model": {"w": torch.ones(2)}}, {})
    assert is_complete(tmp_path)
    (tmp_path / damage).write_bytes(b"{")
    with pytest.raises(UserError, match="no readable checkpoint"):
        read_checkpoint(tmp_path)
    (tmp_path / "state.json").unlink()
    assert not is_complete(tmp_path)


def test_a_place_that_cannot_be_written_is_named():
    with pytest.raises(OutputError, match="/proc/nowhere"):
        write_checkpoint(Path("/proc/nowhere"), {}, {})


def test_moments_keep_the_memory_format_of_their_weights(tmp_path):
    model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    first = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, 5, 5)).sum().backward()
    first.step()
    write_checkpoint(tmp_path, {"optimizer": optimizer_tensors(first)}, {})
    again = torch.optim.AdamW(model.parameters())
    restore_optimizer(again, read_checkpoint(tmp_path)[0]["optimizer"])
    for name, moment in first.state[model.weight].items():
        assert torch.equal(again.state[model.weight][name], moment)
        assert again.state[model.weight][name].stride() == moment.stride()


@pytest.mark.parametrize("make", [lambda p: torch.optim.AdamW(p, lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)])
def test_an_optimiser_goes_on_where_it_was(make):
    def steps(model, optimizer, count):
        for number in range(count):
            optimizer.zero_grad()
            (model(torch.full((2, 3), float(number))) ** 2).sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    whole = torch.nn.Linear(3, 2)
    half = torch.nn.Linear(3, 2)
    half.load_state_dict(whole.state_dict())
    first = make(half.parameters())
    steps(half, first, 3)
    optimizer = make(whole.parameters())
    steps(whole, optimizer, 3)
    steps(whole, optimizer, 2)
    again = make(half.parameters())
    restore_optimizer(again, optimizer_tensors(first))
    steps(half, again, 2)
    assert torch.equal(whole.weight, half.weight)
