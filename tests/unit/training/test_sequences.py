"""Training on listings: every listing once, whatever decodes it; taken up again as if never interrupted."""

import pytest
import torch

from prodrec.recipes import parse_recipe
from prodrec.shards.listing_shards import by_listing
from prodrec.shards.reading import open_shards
from prodrec.training.context import LocalContext
from prodrec.training.loop import Trainer


class Watcher:
    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def progress(self, progress):
        if (progress.epoch, progress.step) == self.stop_at:
            raise KeyboardInterrupt

    def epoch(self, metrics):
        pass


def trained(shards, folder, watcher=None, epochs=2, **data):
    tree = {
        "name": "tiny",
        "model": {"arch": "custom_cnn", "weights": "none", "fuse": "attention", "max_views": 3, "dropout": 0.2},
        "input": {"size": 24},
        "balance": {"class_weights": "effective"},
        "train": {"epochs": epochs, "batch_size": 16, "precision": "fp32", "ema_decay": 0.8},
        "data": {"threads": 1, "lanes": 2} | data,
    }
    trainer = Trainer(parse_recipe(tree, "test"), open_shards(shards), LocalContext(folder, 2, torch.device("cpu"), watcher or Watcher()))
    return trainer, trainer.fit(None)


@pytest.fixture(scope="module")
def whole(listing_shards, tmp_path_factory):
    return trained(listing_shards, tmp_path_factory.mktemp("whole"))


def same(one, other):
    timeless = ("train_loss", "train_top1", "val_loss", "val_top1", "images")
    assert [[e[k] for k in timeless] for e in one[1].history] == [[e[k] for k in timeless] for e in other[1].history]
    assert all(torch.equal(tensor, other[1].best[name]) for name, tensor in one[1].best.items())


def test_a_run_on_listings_that_is_taken_up_again_equals_the_uninterrupted_one(listing_shards, whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        trained(listing_shards, tmp_path, Watcher(stop_at=(2, 2)))
    torch.manual_seed(999)
    same(trained(listing_shards, tmp_path), whole)
    assert whole[1].history[0]["images"] == by_listing(open_shards(listing_shards), 3).split("train").rows == 96


def test_decoding_away_gives_the_same_run(listing_shards, whole, tmp_path):
    same(trained(listing_shards, tmp_path, decode="stream", threads=2), whole)


def test_predictions_are_of_listings(listing_shards, whole):
    predictions = whole[0].predict("val")
    split = by_listing(open_shards(listing_shards), 3).split("val")
    assert predictions.rows.tolist() == list(range(split.rows))
    assert predictions.labels.tolist() == split.column("label_id").to_pylist()
