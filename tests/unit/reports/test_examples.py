import base64
import io

import numpy as np
import pytest
import torch
from made import photo
from PIL import Image

from prodrec.evaluation.predictions import Predictions
from prodrec.labels import Label
from prodrec.reports.examples import MOST_MISTAKE_KINDS, MOST_RIGHT, MOST_WRONG, Thumbnails, mistake_kinds, sheet, sure_mistakes, varied_hits

LABELS = [Label(name=name) for name in ("pear", "apple", "milk", "juice")]


def predictions(rows: int, seed: int = 0) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (rows,), generator=generator)
    logits = torch.randn(rows, 4, generator=generator) + 2 * torch.nn.functional.one_hot(labels, 4)
    return Predictions.of(logits, labels, torch.arange(rows) + 1000)


def confidences(made: Predictions) -> np.ndarray:
    return made.confidence(1.0)[:, 0]


@pytest.mark.parametrize(("mode", "size"), [("RGB", (640, 200)), ("L", (50, 90)), ("CMYK", (300, 300))])
def test_a_thumbnail_is_a_small_whole_picture(mode, size):
    out = io.BytesIO()
    Image.new(mode, size, 3 if mode == "L" else None).save(out, "JPEG")
    uri = Thumbnails(lambda _: out.getvalue()).uri(0)
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))) as image:
        assert image.mode == "RGB"
        assert max(image.size) == min(128, max(size))
        assert image.width / image.height == pytest.approx(size[0] / size[1], rel=0.02)


@pytest.mark.parametrize("data", [b"", b"no picture", photo(0, 0)[:700]], ids=["nothing", "text", "half"])
def test_a_picture_that_cannot_be_read_is_no_thumbnail(data):
    assert Thumbnails(lambda _: data).uri(0) is None


def test_wrong_sheet_is_the_surest_mistakes():
    made = predictions(400)
    chosen = sure_mistakes(made, confidences(made))
    assert len(chosen) == MOST_WRONG < (~made.hits).sum()
    assert not made.hits[chosen].any()
    assert (np.diff(confidences(made)[chosen]) <= 0).all()
    assert confidences(made)[chosen].max() == confidences(made)[~made.hits].max()


def test_right_sheet_goes_from_the_surest_to_the_least_sure():
    made = predictions(400)
    chosen = varied_hits(made, confidences(made))
    assert len(set(chosen)) == MOST_RIGHT < made.hits.sum()
    assert made.hits[chosen].all()
    right = confidences(made)[made.hits]
    assert (confidences(made)[chosen[0]], confidences(made)[chosen[-1]]) == (right.max(), right.min())


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_few_rows_are_each_shown_once(rows):
    made = predictions(rows) if rows else Predictions.concat([])
    chosen = [*sure_mistakes(made, confidences(made)), *varied_hits(made, confidences(made))]
    assert sorted(chosen) == list(range(rows))


def test_a_sheet_names_truth_and_prediction_and_asks_for_the_right_rows():
    made, asked = predictions(12), []
    examples = sheet(made, confidences(made), LABELS, Thumbnails(lambda row: asked.append(row) or photo(0, row)), np.array([7, 2]))
    assert asked == [1007, 1002] == [example.row for example in examples]
    assert [example.truth for example in examples] == [LABELS[made.labels[i]].name for i in (7, 2)]
    assert [example.predicted for example in examples] == [LABELS[made.predicted[i]].name for i in (7, 2)]
    assert [example.confidence for example in examples] == [confidences(made)[i] for i in (7, 2)]


def test_a_mistake_stands_beside_what_it_was_taken_for():
    made = predictions(300)
    kinds = mistake_kinds(made, confidences(made), LABELS, Thumbnails(lambda row: photo(0, row)))
    assert 0 < len(kinds) <= MOST_MISTAKE_KINDS
    for kind in kinds:
        assert (kind.wrong.truth, kind.wrong.predicted) == (kind.truth, kind.predicted)
        assert kind.right.truth == kind.right.predicted == kind.predicted
        assert 0 < kind.count <= kind.n
        truth, predicted = (next(k for k, label in enumerate(LABELS) if label.name == name) for name in (kind.truth, kind.predicted))
        same = (made.labels == truth) & (made.predicted == predicted)
        assert kind.wrong.confidence == confidences(made)[same].max()


def test_a_sure_mistake_is_no_example_of_a_right_one():
    logits = torch.tensor([[0.0, 2, 0, 0], [9, 0, 0, 0], [0, 1, 0, 0]])
    made = Predictions.of(logits, torch.tensor([0, 1, 1]), torch.arange(3))
    kind = next(kind for kind in mistake_kinds(made, confidences(made), LABELS, Thumbnails(lambda row: photo(0, row))) if kind.truth == "pear")
    assert kind.right.row == 2


def test_a_product_that_is_never_right_leaves_its_place_empty():
    made = Predictions.of(torch.tensor([[0.0, 2, 0, 0]]), torch.tensor([0]), torch.tensor([0]))
    [kind] = mistake_kinds(made, confidences(made), LABELS, Thumbnails(lambda row: photo(0, row)))
    assert kind.right is None
