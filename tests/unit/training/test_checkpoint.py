import pytest
import torch

from prodrec.errors import OutputError, TrainingError
from prodrec.files import Folder
from prodrec.lease import held
from prodrec.training.checkpoint import Checkpoints, Position, optimizer_tensors, read_checkpoint, restore_optimizer, write_checkpoint


def test_sections_come_back_bit_for_bit_even_where_they_share_memory(tmp_path):
    weights = torch.randn(3, 4, 5, 5).to(memory_format=torch.channels_last)
    write_checkpoint(Folder(tmp_path / "c"), {"model": {"w": weights}, "best": {"w": weights}}, {"history": [{"epoch": 1, "loss": 0.5}]})
    sections, facts = read_checkpoint(Folder(tmp_path / "c"))
    assert torch.equal(sections["model"]["w"], weights)
    assert torch.equal(sections["best"]["w"], weights)
    assert facts["history"] == [{"epoch": 1, "loss": 0.5}]


def saved(run, *positions, keep=1, **facts):
    checkpoints = Checkpoints(run, keep)
    for position in positions:
        checkpoints.save(position, {"model": {"w": torch.full((200,), float(position.epochs * 100 + position.step))}}, {"history": []} | facts)
    return checkpoints


def test_checkpoints_are_ordered_by_where_they_are_of(tmp_path):
    run = Folder(tmp_path)
    saved(run, Position(9), Position(9, 120), Position(10))
    assert Checkpoints(run).newest() == Position(10)
    assert Checkpoints(Folder(tmp_path / "nothing")).newest() is None
    saved(run, Position(10, 7))
    name, sections, _ = Checkpoints(run).latest(pytest.fail)
    assert name == "checkpoints/epoch-0011-step-000007"
    assert sections["model"]["w"][0] == 1007


def cut_off(file):
    file.write_bytes(file.read_bytes()[:-300])


def overwritten(file):
    file.write_bytes(file.read_bytes()[:-300] + bytes(300))  # as a file system may leave what it had not written yet


def no_json(file):
    (file.parent / "state.json").write_text('{"history": [')


def gone(file):
    file.unlink()


@pytest.mark.parametrize("damage", [cut_off, overwritten, no_json, gone])
def test_a_torn_checkpoint_is_passed_over_and_told(tmp_path, damage):
    checkpoints, told = saved(Folder(tmp_path), Position(1), Position(1, 5)), []
    damage(tmp_path / "checkpoints" / "epoch-0002-step-000005" / "state.safetensors")
    name, sections, _ = checkpoints.latest(told.append)
    assert name == "checkpoints/epoch-0001"
    assert sections["model"]["w"][0] == 100
    assert [("epoch-0002-step-000005" in line, "passed over" in line) for line in told] == [(True, True)]


def test_one_that_was_not_completed_is_none_and_goes_with_the_next(tmp_path):
    checkpoints = saved(Folder(tmp_path), Position(1), Position(1, 5))
    (tmp_path / "checkpoints" / "epoch-0002-step-000005" / "state.json").unlink()
    assert checkpoints.newest() == Position(1)
    assert checkpoints.latest(pytest.fail)[0] == "checkpoints/epoch-0001"
    saved(Folder(tmp_path), Position(1, 6))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["epoch-0001", "epoch-0002-step-000006"]


def test_the_best_and_the_latest_two_stay(tmp_path):
    run = Folder(tmp_path)
    for epoch, score in enumerate([0.1, 0.9, 0.3, 0.4, 0.2, 0.1], start=1):
        saved(run, Position(epoch), keep=2, score=score)  # each time anew, as after a restart
    saved(run, Position(6, 3), keep=2)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["epoch-0002", "epoch-0004", "epoch-0006", "epoch-0007-step-000003"]


def test_a_run_on_ray_of_before_is_gone_on_with(tmp_path):
    run = Folder(tmp_path)
    for epochs in (2, 3):
        write_checkpoint(Folder(tmp_path / "ray" / f"checkpoint_2026-11-2{epochs}"), {"model": {"w": torch.ones(epochs)}}, {"history": [{}] * epochs})
    assert Checkpoints(run).newest() == Position(3)
    assert len(Checkpoints(run).latest(pytest.fail)[1]["model"]["w"]) == 3
    saved(run, Position(3, 1))
    assert Checkpoints(run).newest() == Position(3, 1)


def test_an_object_store_holds_them_as_a_disk_does():
    run = Folder("fsspec+memory://test-checkpoints/run")
    saved(run, Position(1), Position(1, 5), Position(2), Position(2, 1))
    assert [info.base_name for info in run.names("checkpoints")] == ["epoch-0002", "epoch-0003-step-000001"]
    run.write("checkpoints/epoch-0003-step-000001/state.safetensors", b"half")
    told = []
    name, sections, _ = Checkpoints(run).latest(told.append)
    assert (name, len(told)) == ("checkpoints/epoch-0002", 1)
    assert sections["model"]["w"][0] == 200


def test_who_was_taken_for_dead_writes_none(tmp_path):
    run = Folder(tmp_path)
    with held(run, pytest.fail) as claim:
        checkpoints = Checkpoints(run, claim=claim)
        checkpoints.save(Position(1), {}, {})
        run.delete(claim.file)
        with pytest.raises(TrainingError, match="another process has taken over the run"):
            checkpoints.save(Position(2), {}, {})
    assert checkpoints.newest() == Position(1)


def test_a_place_that_cannot_be_written_is_named():
    with pytest.raises(OutputError, match="/proc/nowhere"):
        write_checkpoint(Folder("/proc/nowhere"), {}, {})


def test_moments_keep_the_memory_format_of_their_weights(tmp_path):
    model = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    first = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, 5, 5)).sum().backward()
    first.step()
    write_checkpoint(Folder(tmp_path), {"optimizer": optimizer_tensors(first)}, {})
    again = torch.optim.AdamW(model.parameters())
    restore_optimizer(again, read_checkpoint(Folder(tmp_path))[0]["optimizer"])
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
