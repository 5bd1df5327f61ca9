"""Shared by all tests."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

# Before torch is imported: its threads spin against those of the other processes of a test run.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Before ray is imported, by whichever test file is first: as prodrec.cluster.session does, to listen on the loopback address only.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import pytest
from filelock import FileLock
from hypothesis import settings
from made import build_box_shards, build_shards, prepare_here, run, write_listings
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("prodrec", max_examples=40, deadline=None, derandomize=True)
settings.load_profile("prodrec")


# Folders of tests that share a cluster or a head node, the longest first. Each is worked off by one process of pytest-xdist,
# from its begin, while the others work off the files of the rest.
TOGETHER = ("ray", "faults", "e2e")


def _shared(path: Path) -> str:
    """What a test file shares something expensive with: its folder, for a cluster, or itself, for a server."""
    parts = path.relative_to(Path(__file__).parent).parts
    alone = parts[:2] == ("e2e", "page")  # a browser and servers without Ray
    return parts[0] if parts[0] in TOGETHER and not alone else "/".join(parts)


class _Together(LoadScopeScheduling):
    """Tests that share something stay in one process. Not by xdist's own groups: with pytest 9.2 xdist 3.8 passes them over in silence."""

    def _split_scope(self, nodeid: str) -> str:
        return _shared(self.config.rootpath / nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return _Together(config, log)


def pytest_collection_modifyitems(items):
    places = {path: _shared(path) for path in {item.path for item in items}}
    items.sort(key=lambda item: TOGETHER.index(places[item.path]) if places[item.path] in TOGETHER else len(TOGETHER))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A folder by name that is made by the first process of the test session that asks for it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        place, done = shared / f"made-{name}" / "it", shared / f"made-{name}" / "done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                place.parent.mkdir(exist_ok=True)
                make(place)
                done.touch()
        return place

    return folder


def train_here(shards: object, recipe: str, out: Path, settings: list[str]) -> None:
    assert run("train", shards, "--recipe", recipe, "--out", out, "--local", *(part for setting in settings for part in ("--set", setting))) == 0


@pytest.fixture(scope="session")
def small_shards(made_once) -> str:
    """120 photos of 4 labels in 2 groups."""
    return str(made_once("small_shards", lambda folder: build_shards(folder, {"red": 40, "green": 36, "blue": 24, "yellow": 20})))


@pytest.fixture(scope="session")
def box_shards(made_once) -> str:
    """60 scenes with boxes of 2 labels; a quarter of them show none."""
    return str(made_once("box_shards", lambda folder: build_box_shards(folder, 60)))


@pytest.fixture(scope="session")
def small_bundle(small_shards, made_once) -> str:
    """A classifier of `small_shards` that is right nearly always."""
    settings = ["input.size=32", "train.epochs=16", "train.batch_size=16", "data.threads=1", "optim.lr=0.004", "balance.class_weights=none"]
    return str(made_once("small_run", lambda folder: train_here(small_shards, "custom_cnn", folder, settings)) / "bundle")


@pytest.fixture(scope="session")
def calibrated_bundle(small_bundle, small_shards, made_once) -> str:
    """`small_bundle` with thresholds from which on its answers are accepted."""

    def calibrate(bundle: Path) -> None:
        shutil.copytree(small_bundle, bundle)
        assert run("calibrate", bundle, small_shards, "--precision", "0.7", "--confidence", "0.8") == 0

    return str(made_once("calibrated_bundle", calibrate))


LISTING_SETTINGS = ["train.epochs=12", "train.batch_size=16", "input.size=32", "optim.lr=0.006", "data.threads=1", "model.dropout=0.0"]


@pytest.fixture(scope="session")
def listing_source(made_once) -> Path:
    """A manifest with 160 listings of 4 products, of which one view alone leaves two."""
    return made_once("listing_source", lambda folder: write_listings(folder, 40))


@pytest.fixture(scope="session")
def listing_shards(listing_source, made_once) -> str:
    """Of `listing_source`: 96 listings of train, 32 of val, 32 of test."""
    return str(made_once("listing_shards", lambda folder: prepare_here(listing_source, folder)))


@pytest.fixture(scope="session")
def listing_run(listing_shards, made_once) -> Path:
    """The run of an LSTM over the views of `listing_shards`."""
    return made_once("listing_run", lambda folder: train_here(listing_shards, "cnn_lstm", folder, LISTING_SETTINGS))


# Few proposals: most of the time goes into them.
_TAGGER_ARGS = "{min_anchor: 10, rpn_post_nms_top_n_train: 50, rpn_post_nms_top_n_test: 40, box_batch_size_per_image: 48, rpn_batch_size_per_image: 64}"
_TAGGER_SETTINGS = ["train.epochs=30", "input.size=96", "train.batch_size=4", "data.threads=1", f"model.args={_TAGGER_ARGS}", "train.ema_decay=0.9"]
_TAGGER_SETTINGS += ["augment.min_crop_area=1", "augment.mix=0", "optim.lr=0.003", "optim.warmup_epochs=1", "tags.target_precision=0.8"]


@pytest.fixture(scope="session")
def tagger_run(box_shards, made_once) -> Path:
    """The run of a tagger of `box_shards`; its bundle finds most of the boxes."""
    return made_once("tagger_run", lambda folder: train_here(box_shards, "fasterrcnn_tiny", folder, _TAGGER_SETTINGS))
