"""Ray Data hands over the very rows that the order names, in that order, however its tasks are scheduled."""

import pytest
import torch
from made import build_shards

from prodrec.cluster.ingest import stream_tables
from prodrec.config import AugmentConfig, PreprocessSpec
from prodrec.shards import plan
from prodrec.shards.feed import Pass, batches
from prodrec.shards.order import epoch_order
from prodrec.shards.reading import open_shards
from prodrec.shards.stream import train_transform


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """Many small row groups, so that an epoch has many windows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ROW_GROUP_ROWS", 16)
        return open_shards(build_shards(tmp_path_factory.mktemp("many") / "s", {"a": 300, "b": 200})).split("train")


def test_rows_arrive_in_the_order_of_their_windows(split):
    order = epoch_order(split.row_group_sizes, 32, lanes=2, window_row_groups=1, seed=3)
    assert len(order.windows) > 15
    transform = train_transform(PreprocessSpec(size=24), AugmentConfig(), seed=3, epoch=0)
    one = Pass(split, order, transform)
    tables = list(stream_tables(split, order.windows, transform))
    expected = [row for window in order.windows for row in window.rows.tolist()]
    assert [row for table in tables for row in table["row"].to_pylist()] == expected
    streamed, read_here = batches(one, threads=2, away=lambda one: iter(tables)), batches(one, threads=1)
    assert all(torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets) for a, b in zip(streamed, read_here, strict=True))
