"""A source is looked at on a cluster as it is by the threads of one process."""

import pandas as pd
from made import write_image_folder

from prodrec.cluster import inspecting
from prodrec.cluster.inspecting import look_on_cluster
from prodrec.shards.inspecting import look_at
from prodrec.shards.preparing import PrepareOptions
from prodrec.sources.source import open_source


def test_the_cluster_tells_the_same_facts_in_the_order_of_the_source(tmp_path, monkeypatch):
    folder = write_image_folder(tmp_path / "source", {"cup": 5, "mug": 4})
    (folder / "mug" / "000.jpg").write_bytes(b"no image")
    monkeypatch.setattr(inspecting, "SLICE_ROWS", 4)
    source, told = open_source(str(folder)), []
    there = look_on_cluster(source, PrepareOptions(), lambda *counts: told.append(counts))
    here = look_at(source, PrepareOptions(), lambda *counts: None)
    pd.testing.assert_frame_equal(there.images, here.images)
    assert told[-1] == (9, 1, 9)
