"""What is asked of a store, counted on a file system: opening shards and looking at their labels must not cost a request for each row group."""

import io
from collections import Counter
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest
from made import photo
from pyarrow import fs

from prodrec import files
from prodrec.shards import plan
from prodrec.shards import reading as shard_reading
from prodrec.shards.assemble import assemble
from prodrec.shards.order import Window
from prodrec.shards.reading import open_shards
from prodrec.shards.split import Fractions
from prodrec.shards.staging import stage, start_output


class _CountedFile(io.FileIO):
    def __init__(self, path, asked):
        super().__init__(path)
        self.asked = asked

    def read(self, size=-1):
        self.asked["read"] += 1
        return super().read(size)


class CountingHandler(fs.FileSystemHandler):
    """A local disk that counts what an object store would be asked."""

    def __init__(self):
        self.local, self.asked = fs.LocalFileSystem(), Counter()

    def get_file_info(self, paths):
        self.asked["info"] += len(paths)
        return self.local.get_file_info(paths)

    def get_file_info_selector(self, selector):
        self.asked["list"] += 1
        return self.local.get_file_info(selector)

    def open_input_stream(self, path):
        return self.open_input_file(path)

    def open_input_file(self, path):
        self.asked["open"] += 1
        return pa.PythonFile(_CountedFile(path, self.asked), mode="r")

    def get_type_name(self):
        return "counting"

    def normalize_path(self, path):
        return path

    def _refused(self, *arguments, **named):
        raise AssertionError("shards are only read here")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = move = copy_file = _refused
    open_output_stream = open_append_stream = _refused


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """1,000 row groups in 18 shards or so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ROW_GROUP_ROWS", 1)
        patch.setattr(plan, "SHARD_BYTES", 70_000)
        out, data = start_output(str(tmp_path_factory.mktemp("many"))), photo(0, 0)
        stage(out, 0, [{"uri": f"{i}.jpg", "label": "ab"[i % 2], "sha256": sha256(bytes([i % 256, i // 256])).hexdigest(), "image": data} for i in range(1250)])
        assemble(out, Fractions(0.8, 0.1, 0.1), {"source": "", "source_format": "", "code_version": "", "short_side": 48, "jpeg_quality": 90}, 1250)
        return out.uri


@pytest.fixture
def asked(monkeypatch):
    handler = CountingHandler()
    store = fs.PyFileSystem(handler)
    monkeypatch.setattr(files, "resolve", lambda uri: (store, uri))
    shard_reading._footer.cache_clear()
    return handler.asked


def test_opening_shards_and_counting_their_labels_takes_a_handful_of_requests(many, asked):
    shards = open_shards(many)
    assert len(shards.split("train").row_group_sizes) >= 900
    assert len(shards.manifest.splits["train"]) >= 10
    assert (asked["list"], asked["info"], asked["open"]) == (1, 0, 1)
    assert shards.class_counts("train").sum() == shards.split("train").rows
    assert (asked["list"], asked["info"], asked["open"]) == (1, 0, 1), "counting read a file"
    before = asked["read"]
    assert len(shards.split("train").column("label_id")) == shards.split("train").rows
    assert asked["read"] - before <= 4


def test_a_window_costs_a_request_for_each_row_group_and_footers_are_read_once(many, asked):
    split = open_shards(many).split("train")
    rows = np.arange(0, split.rows, split.rows // 16)
    window = Window(0, rows, np.zeros_like(rows))
    split.read(window)
    first = asked["read"]
    split.read(window)
    assert asked["read"] - first <= len(rows)
