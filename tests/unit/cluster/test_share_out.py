"""How many runs of a comparison go on at once: never so many that one waits for the other's place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec.cluster.compare import share_out
from prodrec.cluster.train import Workers, _scaling

LAPTOP = [{"CPU": 2}]
SERVER = [{"CPU": 16}]
GPU_BOX = [{"CPU": 96, "GPU": 8}]
CLUSTER = [{"CPU": 8}] + [{"CPU": 8, "GPU": 1}] * 4


@pytest.mark.parametrize(
    ("workers", "nodes", "runs", "expected"),
    [
        (Workers(), LAPTOP, 3, (1, None)),
        (Workers(), SERVER, 3, (3, 4)),
        (Workers(), SERVER, 20, (12, 1)),
        (Workers(2, 2), SERVER, 3, (3, 2)),
        (Workers(gpu=True), GPU_BOX, 3, (3, 9)),
        (Workers(4, 4, gpu=True), GPU_BOX, 3, (2, 9)),
        (Workers(2, 2, gpu=True), CLUSTER, 6, (2, 6)),
        (Workers(4, 4, gpu=True), CLUSTER, 6, (1, None)),
        (Workers(gpu=True), [{"CPU": 8}], 6, (1, None)),
        (Workers(cpus=0.5), LAPTOP, 3, (3, 0.5)),
        (Workers(cpus=2), SERVER, 9, (6, 2)),
    ],
)
def test_as_many_as_there_is_room_for(workers, nodes, runs, expected):
    count, each = share_out(workers, nodes, runs)
    assert (count, each.cpus) == expected


def test_what_is_asked_for_is_taken_for_clusters_that_grow():
    assert share_out(Workers(4, 4, gpu=True), [{"CPU": 8}], 6, at_once=2) == (2, Workers(4, 4, True, 0.5))
    assert share_out(Workers(), LAPTOP, 6, at_once=2)[1].cpus == 0.5
    assert share_out(Workers(), SERVER, 6, at_once=1) == (1, Workers())


node = st.builds(lambda cpus, gpus: {"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}, st.integers(1, 64), st.integers(0, 8))


@given(st.lists(node, min_size=1, max_size=4), st.integers(1, 4), st.booleans(), st.integers(1, 8))
def test_all_workers_of_runs_at_once_have_a_place_and_cpus_are_left(nodes, most, gpu, runs):
    count, each = share_out(Workers(most, most, gpu), nodes, runs)
    assert 1 <= count <= runs
    if count > 1:
        resources = _scaling(each, nodes, decodes_away=True).resources_per_worker
        assert resources["CPU"] == each.cpus >= 1
        assert count * most * each.cpus < sum(node["CPU"] for node in nodes)
        places = sum(min(int(node["CPU"] // each.cpus), node.get("GPU", 0) if gpu else 10**6) for node in nodes)
        assert places >= count * most
