import numpy as np
import pytest
import torch

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.errors import OutputError
from prodrec.evaluation.acceptance import accepted_metrics
from prodrec.evaluation.folds import chosen_on_folds, fold_uri, is_refuted, read_answers, write_answers
from prodrec.evaluation.predictions import Predictions
from prodrec.files import Folder
from prodrec.labels import Label
from prodrec.models.bundle_info import ClassifierInfo

CLASSES = 40


def said(rows, seed, flattered=0.0):
    """What a calibrated classifier says of rows; a share of them it has as good as seen before."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, CLASSES, generator=generator) * 4
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    known = torch.rand(rows, generator=generator) < flattered
    return Predictions.of(logits, torch.where(known, logits.argmax(1), labels), torch.arange(rows))


@pytest.fixture
def before():
    return ClassifierInfo(
        model=ModelConfig(arch="custom_cnn", weights="none"),
        input=PreprocessSpec(),
        labels=[Label(name=str(k)) for k in range(CLASSES)],
        temperature=1.0,
        metrics={},
        recipe={},
        train_counts=[1] * CLASSES,
        data_manifest_sha256="a" * 64,
    )


def test_answers_are_read_back_as_they_were_written_in_the_order_of_all_rows(tmp_path):
    whole = said(30, 1)
    for fold, rows in ((1, np.arange(0, 30, 2)), (2, np.arange(1, 30, 2))):
        part = Predictions(np.arange(15), *(getattr(whole, name)[rows] for name in ("labels", "topk_ids", "topk_logits", "label_logits", "logsumexp")))
        write_answers(Folder(fold_uri(str(tmp_path), fold)), part, rows)
    found = read_answers(Folder(tmp_path), 2)
    for name in ("rows", "labels", "topk_ids", "topk_logits", "label_logits", "logsumexp"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name
    with pytest.raises(OutputError, match="fold 3 of 3"):
        read_answers(Folder(tmp_path), 3)


def test_folds_that_are_as_new_photos_promise_what_few_val_images_cannot_and_it_holds(before):
    alone = [chosen_on_folds(said(60, seed), said(60, seed), before, 0.95, 0.9)[1].accepted for seed in range(5)]
    assert not any(alone), "60 images are not enough"
    kept = []
    for seed in range(20):
        temperature, chosen = chosen_on_folds(said(3000, seed), said(60, 100 + seed), before, 0.95, 0.9)
        if not chosen.carried_over:
            assert chosen.accepted > 0
            test = accepted_metrics(chosen, said(20000, 200 + seed), before.labels, temperature)
            kept.append(test["precision"] >= 0.95)
    assert len(kept) >= 15 and np.mean(kept) >= 0.8


def test_folds_that_are_more_alike_than_val_promise_nothing(before):
    """As on grocery: out of fold 96 % are right, of another shop's photos 73 %."""
    refused = 0
    for seed in range(10):
        temperature, chosen = chosen_on_folds(said(3000, seed, flattered=0.9), said(300, 100 + seed), before, 0.95, 0.9)
        refused += bool(chosen.carried_over)
        if chosen.carried_over:
            assert (temperature, chosen.threshold, chosen.accepted) == (before.temperature, None, 0)
            assert "had not learned from val" in chosen.carried_over
    assert refused >= 9


@pytest.mark.parametrize(("misses", "n", "refuted"), [(0, 500, False), (5, 200, False), (6, 200, False), (8, 200, True), (0, 0, False), (200, 200, True)])
def test_a_promise_is_refuted_where_chance_explains_no_more_than_a_tenth(misses, n, refuted):
    """Source of 8: P(X >= 7) = 0.11 and P(X >= 8) = 0.05 of 200 at 2 %, by the binomial distribution."""
    assert is_refuted(misses, n, 0.98, 0.9) == refuted
