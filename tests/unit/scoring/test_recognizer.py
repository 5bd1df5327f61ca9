import io
import json
import resource
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made import photo
from PIL import Image

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.errors import ConfigError
from prodrec.evaluation.judging import open_judged, predicted
from prodrec.images.formats import ImageLimits
from prodrec.labels import Label
from prodrec.models.bundle import Bundle, load_bundle, write_bundle
from prodrec.models.bundle_info import ClassifierInfo
from prodrec.models.registry import create_classifier
from prodrec.models.scorer import Scorer
from prodrec.scoring import Recognizer
from prodrec.scoring.decision import Decision
from prodrec.scoring.inputs import Inputs, InputThreads
from prodrec.scoring.recognition import Recognition
from prodrec.scoring.show import describe
from prodrec.shards.reading import open_shards


def shard_images(shards: str, split: str) -> list[bytes]:
    index = open_shards(shards).split(split)
    return [index.image(row) for row in range(index.rows)]


@pytest.mark.parametrize("precision", [None, "fp32"])
def test_what_is_served_is_what_is_judged(small_bundle, small_shards, precision):
    bundle, shards = open_judged(small_bundle, small_shards, "test", torch.device("cpu"))
    predictions = predicted(bundle, shards, "test", torch.device("cpu"))
    answers = Recognizer.load(classifier=small_bundle, precision=precision).recognize(shard_images(small_shards, "test"))
    names = [label.name for label in bundle.info.labels]
    tolerance = 1e-5 if precision is None else 0.03
    assert [answer.products[0].label for answer in answers] == [names[k] for k in predictions.predicted]
    assert [answer.products[0].probability for answer in answers] == pytest.approx(predictions.confidence(bundle.info.temperature)[:, 0], abs=tolerance)
    assert [answer.energy for answer in answers] == pytest.approx(predictions.energy, abs=0.2 if precision else 1e-4)
    assert all(answer.products[0].group == bundle.info.labels[names.index(answer.products[0].label)].group for answer in answers)


def test_bad_images_are_answers_in_their_place(small_bundle):
    images = [photo(0, 500), b"no image", photo(1, 500)[:200], b"", photo(1, 500)]
    answers = Recognizer.load(classifier=small_bundle).recognize(images)
    assert [answer.code for answer in answers] == [None, "not_an_image", "truncated", "not_an_image", None]
    assert [answer.products[0].label for answer in answers if not answer.code] == ["red", "green"]
    assert answers[0].quality.short_side == 48
    assert answers[0].timings_ms.keys() == {"prepare", "classify"}
    assert Recognizer.load(classifier=small_bundle).recognize([]) == []


def test_any_number_of_images_gives_the_same_answers(small_bundle):
    recognizer = Recognizer.load(classifier=small_bundle, precision="fp32")
    images = [photo(number % 4, 600 + number) for number in range(53)]
    one_by_one = [recognizer.recognize([image])[0] for image in images]
    for together, alone in zip(recognizer.stream(iter(images)), one_by_one, strict=True):
        assert (together.sha256, together.quality) == (alone.sha256, alone.quality)
        assert [p.label for p in together.products] == [p.label for p in alone.products]
        assert together.products[0].probability == pytest.approx(alone.products[0].probability, abs=1e-5)


def test_an_image_that_takes_too_long_costs_itself_only(small_bundle):
    # 36 megapixels: to inflate and shrink them takes any machine more than a hundredth of a second. Each image has its own limit,
    # of its own time on a core, so other work changes nothing.
    data = io.BytesIO()
    Image.new("L", (6000, 6000)).save(data, "PNG", compress_level=1)
    recognizer = Recognizer.load(classifier=small_bundle, threads=1, limits=ImageLimits(max_seconds=0.01))
    answers = recognizer.recognize([photo(0, 700), data.getvalue(), photo(1, 700), photo(2, 700)])
    assert [answer.code for answer in answers] == [None, "too_slow", None, None]
    assert "0.01 s" in answers[1].detail
    assert not recognizer.recognize([photo(3, 700)])[0].code


def test_long_images_keep_no_short_one_waiting():
    """With one thread each, whatever is in the way of the long one."""
    begun, go_on = threading.Event(), threading.Event()
    tiff = io.BytesIO()
    Image.new("RGB", (8, 8)).save(tiff, "TIFF")

    def make(data: bytes) -> Inputs:
        if data == tiff.getvalue():
            begun.set()
            assert go_on.wait(30)
        return Inputs(Recognition(sha256=str(len(data))))

    threads = InputThreads(make, 1)
    long, *short = threads.submit([tiff.getvalue(), *[photo(0, number) for number in range(5)]])
    assert begun.wait(30)
    assert all(future.result(30).answer.sha256 for future in short)
    assert not long.done()
    go_on.set()
    assert long.result(30).answer.sha256 == str(len(tiff.getvalue()))


def test_a_strip_of_pixels_takes_no_memory_and_harms_no_other(small_bundle):
    strips = []
    for size in ((60_000, 1), (1, 60_000)):
        out = io.BytesIO()
        Image.new("RGB", size, (200, 40, 40)).save(out, "PNG")
        strips.append(out.getvalue())
    bundle = load_bundle(small_bundle)
    crop = bundle.info.input.model_copy(update={"resize": "crop", "crop_fraction": 0.8})
    cropping = Bundle(bundle.info.model_copy(update={"input": crop}), bundle.model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answers = Recognizer(cropping, None).recognize([*strips, photo(0, 900)])
    assert [answer.code for answer in answers] == [None, None, None]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_quality_is_never_measured_on_too_few_pixels(small_bundle):
    bundle = load_bundle(small_bundle)
    data = io.BytesIO()
    Image.open(io.BytesIO(photo(0, 1))).resize((600, 500), Image.Resampling.BICUBIC).save(data, "JPEG")
    scores = [
        Recognizer(Bundle(bundle.info.model_copy(update={"short_side": side}), bundle.model), None).recognize([data.getvalue()])[0].quality
        for side in (48, 100, 256)
    ]
    assert scores[0] == scores[1] == scores[2]
    assert scores[0].short_side == 500


def test_probabilities_have_the_temperature_of_the_bundle(small_bundle):
    bundle = load_bundle(small_bundle)
    cold, hot = (
        Recognizer(Bundle(bundle.info.model_copy(update={"temperature": t}), bundle.model), None).recognize([photo(0, 5)])[0].products[0].probability
        for t in (0.5, 4.0)
    )
    assert cold > hot + 0.1


class Hungry(torch.nn.Module):
    """Asks for 4 KB for one image, for 16 MB for two, for 6.9e16 bytes and more for eight: the allocator refuses."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.served = model, []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        torch.empty(1000 * len(images) ** 12)
        self.served.append(len(images))
        return self.model(images)


def test_a_batch_that_does_not_fit_is_scored_in_halves(small_bundle):
    bundle = load_bundle(small_bundle)
    images = torch.randint(256, (13, 3, bundle.info.input.size, bundle.info.input.size), dtype=torch.uint8)
    expected = Scorer(bundle, torch.device("cpu"), "fp32")(images)
    hungry = Hungry(bundle.model)
    found = Scorer(Bundle(bundle.info, hungry), torch.device("cpu"), "fp32")(images)
    assert sum(hungry.served) == 13
    assert max(hungry.served) < 8
    assert torch.allclose(found, expected, atol=1e-5)


def test_there_must_be_a_bundle():
    with pytest.raises(ConfigError, match="nothing to recognize with"):
        Recognizer.load()


def test_calibrating_writes_thresholds_into_the_bundle(small_bundle, small_shards, tmp_path, capsys):
    import shutil

    from made import run

    bundle = tmp_path / "bundle"
    shutil.copytree(small_bundle, bundle)
    before = load_bundle(bundle)
    assert before.info.acceptance is None
    assert run("calibrate", bundle, small_shards, "--precision", "0.7", "--confidence", "0.8") == 0
    assert "promised with 80% confidence" in capsys.readouterr().out
    after = load_bundle(bundle)
    acceptance = after.info.acceptance
    assert (acceptance.split, acceptance.n, acceptance.target_precision) == ("val", open_shards(small_shards).split("val").rows, 0.7)
    assert acceptance.right / acceptance.accepted >= 0.7
    assert after.info.bundle_id != before.info.bundle_id
    assert after.info.weights_sha256 == before.info.weights_sha256
    assert json.loads((bundle / "bundle.json").read_text())["acceptance"]["accepted"] == acceptance.accepted
    assert run("calibrate", bundle, small_shards, "--split", "train") == 2
    assert "--split train" in capsys.readouterr().err


def test_an_answer_carries_the_embedding_of_its_forward_pass(tmp_path):
    config = ModelConfig(arch="custom_cnn", weights="none", head="arcface", head_args={"embedding_dim": 7})
    model = create_classifier(config, 3, 32).eval()
    labels = [Label(name=name) for name in ("a", "b", "c")]
    facts = {"temperature": 1.0, "train_counts": [1] * 3, "metrics": {}, "recipe": {}, "data_manifest_sha256": "", "embedding_dim": 7}
    write_bundle(tmp_path / "b", model, ClassifierInfo(model=config, input=PreprocessSpec(size=32), labels=labels, **facts))
    passes = []
    recognizer = Recognizer.load(classifier=str(tmp_path / "b"))
    recognizer.classifier.model.backbone.register_forward_hook(lambda *_: passes.append(1))
    answers = recognizer.recognize([photo(0, 1), b"no image", photo(1, 2)])
    assert len(passes) == 1
    assert answers[1].embedding is None
    for answer in (answers[0], answers[2]):
        assert (answer.embedding.shape, answer.embedding.dtype) == ((7,), np.float32)
        logits = recognizer.classifier.model.head.classify(torch.from_numpy(answer.embedding)[None]).detach()
        assert logits.softmax(1).max().item() == pytest.approx(answer.products[0].probability, abs=1e-4)
        assert answer == replace(answer, embedding=None)
    assert "embedding" not in json.loads(describe(Path("x.jpg"), answers[0], Decision("review", None, ()), as_json=True))
    assert not np.allclose(answers[0].embedding, answers[2].embedding)
