"""Shared by all tests."""

import os
import shutil
from pathlib import Path

# Before torch is imported: its threads spin against those of the other processes of a test run.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Before ray is imported, by whichever test file is first: as prodrec.cluster.session does, to listen on the loopback address only.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import pytest
from hypothesis import settings
from made import build_box_shards, build_shards, prepare_here, run, write_listings

settings.register_profile("prodrec", max_examples=40, deadline=None, derandomize=True)
settings.load_profile("prodrec")


@pytest.fixture(scope="session")
def small_shards(tmp_path_factory) -> str:
    """120 photos of 4 labels in 2 groups."""
    return build_shards(tmp_path_factory.mktemp("shards") / "small", {"red": 40, "green": 36, "blue": 24, "yellow": 20})


@pytest.fixture(scope="session")
def box_shards(tmp_path_factory) -> str:
    """60 scenes with boxes of 2 labels; a quarter of them show none."""
    return build_box_shards(tmp_path_factory.mktemp("box_shards") / "small", 60)


@pytest.fixture(scope="session")
def small_bundle(small_shards, tmp_path_factory) -> str:
    """A classifier of `small_shards` that is right nearly always."""
    run_folder = tmp_path_factory.mktemp("bundle") / "run"
    settings = ["input.size=32", "train.epochs=16", "train.batch_size=16", "data.threads=1", "optim.lr=0.004", "balance.class_weights=none"]
    options = [part for setting in settings for part in ("--set", setting)]
    assert run("train", small_shards, "--recipe", "custom_cnn", "--out", run_folder, "--local", *options) == 0
    return str(run_folder / "bundle")


@pytest.fixture(scope="session")
def calibrated_bundle(small_bundle, small_shards, tmp_path_factory) -> str:
    """`small_bundle` with thresholds from which on its answers are accepted."""
    bundle = tmp_path_factory.mktemp("calibrated") / "bundle"
    shutil.copytree(small_bundle, bundle)
    assert run("calibrate", bundle, small_shards, "--precision", "0.7", "--confidence", "0.8") == 0
    return str(bundle)


LISTING_SETTINGS = ["train.epochs=12", "train.batch_size=16", "input.size=32", "optim.lr=0.006", "data.threads=1", "model.dropout=0.0"]


@pytest.fixture(scope="session")
def listing_source(tmp_path_factory) -> Path:
    """A manifest with 160 listings of 4 products, of which one view alone leaves two."""
    return write_listings(tmp_path_factory.mktemp("listings") / "source", 40)


@pytest.fixture(scope="session")
def listing_shards(listing_source) -> str:
    """Of `listing_source`: 96 listings of train, 32 of val, 32 of test."""
    return prepare_here(listing_source, listing_source.parent / "shards")


@pytest.fixture(scope="session")
def listing_run(listing_shards, tmp_path_factory) -> Path:
    """The run of an LSTM over the views of `listing_shards`."""
    folder = tmp_path_factory.mktemp("listing_run") / "run"
    options = [part for setting in LISTING_SETTINGS for part in ("--set", setting)]
    assert run("train", listing_shards, "--recipe", "cnn_lstm", "--out", folder, "--local", *options) == 0
    return folder


# Few proposals: most of the time goes into them.
_TAGGER_ARGS = "{min_anchor: 10, rpn_post_nms_top_n_train: 50, rpn_post_nms_top_n_test: 40, box_batch_size_per_image: 48, rpn_batch_size_per_image: 64}"
_TAGGER_SETTINGS = ["train.epochs=30", "input.size=96", "train.batch_size=4", "data.threads=1", f"model.args={_TAGGER_ARGS}", "train.ema_decay=0.9"]
_TAGGER_SETTINGS += ["augment.min_crop_area=1", "augment.mix=0", "optim.lr=0.003", "optim.warmup_epochs=1", "tags.target_precision=0.8"]


@pytest.fixture(scope="session")
def tagger_run(box_shards, tmp_path_factory) -> Path:
    """The run of a tagger of `box_shards`; its bundle finds most of the boxes."""
    folder = tmp_path_factory.mktemp("tagger") / "run"
    options = [part for setting in _TAGGER_SETTINGS for part in ("--set", setting)]
    assert run("train", box_shards, "--recipe", "fasterrcnn_tiny", "--out", folder, "--local", *options) == 0
    return folder
