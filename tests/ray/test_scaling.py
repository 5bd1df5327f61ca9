"""How many CPUs a worker asks for: what one node can hold, and never all of them."""

import pytest

from prodrec.cluster.train import Workers, _check_lanes, _scaling
from prodrec.errors import ConfigError

LAPTOP = [{"CPU": 2}]
GPU_BOX = [{"CPU": 96, "GPU": 8}]
HEAD_ONLY = [{"CPU": 8}]
CLUSTER = [{"CPU": 8}] + [{"CPU": 8, "GPU": 1}] * 8


@pytest.mark.parametrize(
    ("workers", "nodes", "cpus"),
    [
        (Workers(1, 1), LAPTOP, 1),
        (Workers(2, 2), LAPTOP, 0.5),
        (Workers(8, 8, gpu=True), GPU_BOX, 9),
        (Workers(1, 1, gpu=True), CLUSTER, 6),
        (Workers(8, 8, gpu=True), CLUSTER, 6),
        (Workers(8, 8, gpu=True, cpus=4), HEAD_ONLY, 4),
    ],
)
def test_a_worker_fits_a_node_and_leaves_cpus_to_others(workers, nodes, cpus):
    scaling = _scaling(workers, nodes, decodes_away=True)
    assert scaling.resources_per_worker["CPU"] == cpus
    assert scaling.resources_per_worker.get("GPU", 0) == workers.gpu
    assert scaling.num_workers == workers.most


@pytest.mark.parametrize(
    ("workers", "nodes"),
    [(Workers(1, 2, cpus=1), LAPTOP), (Workers(2, 2, cpus=1), LAPTOP), (Workers(4, 4), LAPTOP), (Workers(8, 8, gpu=True, cpus=12), GPU_BOX)],
)
def test_workers_that_would_wait_for_cpus_forever_are_refused(workers, nodes):
    with pytest.raises(ConfigError, match=r"leave none|do not fit"):
        _scaling(workers, nodes, decodes_away=True)


def test_workers_that_decode_beside_themselves_may_take_every_cpu():
    four_nodes = [{"CPU": 1}] * 4
    for workers, nodes in ((Workers(4, 4, cpus=1), four_nodes), (Workers(2, 2, cpus=1), LAPTOP), (Workers(4, 4), LAPTOP)):
        assert _scaling(workers, nodes, decodes_away=False).num_workers == workers.most
    with pytest.raises(ConfigError, match="5 workers of 1 CPUs do not fit on 4"):
        _scaling(Workers(5, 5, cpus=1), four_nodes, decodes_away=False)


@pytest.mark.parametrize(
    ("workers", "nodes", "cpus"),
    [(Workers(8, 8, gpu=True, cpus=6), HEAD_ONLY, 6), (Workers(16, 16, cpus=4), HEAD_ONLY, 4), (Workers(2, 2, cpus=4), [{}], 4), (Workers(2, 2), HEAD_ONLY, 3)],
)
def test_a_cluster_that_grows_is_waited_for_where_the_size_of_a_worker_is_said(workers, nodes, cpus):
    assert _scaling(workers, nodes, decodes_away=False, may_grow=True).resources_per_worker["CPU"] == cpus


@pytest.mark.parametrize(
    ("workers", "nodes", "message"),
    [
        (Workers(8, 8, gpu=True), HEAD_ONLY, "no node with a GPU is up.*give --cpus-per-worker"),
        (Workers(2, 2), [{}], "no node with a CPU is up.*give --cpus-per-worker"),
        (Workers(32, 32), HEAD_ONLY, "do not fit on 8.*where the cluster is to grow, give --cpus-per-worker"),
    ],
)
def test_what_cannot_be_seen_of_a_cluster_that_grows_is_asked_for(workers, nodes, message):
    with pytest.raises(ConfigError, match=message):
        _scaling(workers, nodes, decodes_away=False, may_grow=True)


def test_lanes_must_suit_every_number_of_workers_that_an_elastic_run_may_come_to():
    for fine in (Workers(1, 2), Workers(2, 2), Workers(4, 4)):
        _check_lanes(4, fine)
    _check_lanes(None, Workers(1, 4))
    with pytest.raises(ConfigError, match="does not divide among 3 workers; use a multiple of 12"):
        _check_lanes(4, Workers(1, 4))


def test_an_elastic_range_is_passed_on():
    assert _scaling(Workers(1, 2, cpus=0.5), LAPTOP, decodes_away=False).num_workers == (1, 2)
