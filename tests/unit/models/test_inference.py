"""One answer of training, evaluation and serving, with the mirrored image where the bundle says so."""

import numpy as np
import pytest
import torch
from made import photo
from torch import nn

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.errors import ConfigError
from prodrec.images.decode import decode_rgb
from prodrec.images.transforms import resize
from prodrec.labels import Label
from prodrec.models.bundle import Bundle
from prodrec.models.bundle_info import ClassifierInfo
from prodrec.models.inference import classified
from prodrec.models.registry import Classifier, create_classifier
from prodrec.models.scorer import Scorer
from prodrec.models.tasks import ClassificationTask
from prodrec.recipes import parse_recipe
from prodrec.scoring import Recognizer
from prodrec.scoring.explain import grad_cam

SIZE = 32


def bundle(model, flip=True, **fields):
    config = ModelConfig(arch="custom_cnn", weights="none", **fields)
    facts = {"temperature": 1.0, "train_counts": [1] * 3, "metrics": {}, "recipe": {}, "data_manifest_sha256": "", "embedding_dim": model.embedding_dim}
    labels = [Label(name=name) for name in "abc"]
    return Bundle(ClassifierInfo(model=config, input=PreprocessSpec(size=SIZE, normalize="zero_one", flip=flip), labels=labels, **facts), model.eval())


def made(**fields):
    torch.manual_seed(3)
    return create_classifier(ModelConfig(arch="custom_cnn", weights="none", **fields), 3, SIZE).eval()


@pytest.mark.parametrize("head", ["linear", "arcface"])
def test_the_answer_is_the_mean_with_that_to_the_mirrored_image(head):
    model, images = made(head=head), torch.randn(4, 3, SIZE, SIZE)
    with torch.inference_mode():
        (one, e), (other, f) = model.described(images), model.described(images.flip(-1))
        logits, embedding = classified(model, images, flip=True)
        again = classified(model, images.flip(-1), flip=True)[0]
        plain, _ = classified(model, images, flip=False)
    assert torch.allclose(logits, (one + other) / 2, atol=1e-6)
    assert torch.allclose(logits, again, atol=1e-6)
    assert torch.equal(plain, one)
    assert not torch.allclose(logits, plain, atol=1e-4)
    if head == "arcface":
        assert torch.allclose(embedding, nn.functional.normalize(e + f, dim=1), atol=1e-6)


def test_validation_and_serving_answer_alike():
    model = made()
    whole = bundle(model)
    pixels = torch.stack([resize(decode_rgb(photo(n, n)), whole.info.input) for n in range(3)])
    task = ClassificationTask(model, whole.info.input, torch.ones(3), 0.0, channels_last=True).eval()
    scorer = Scorer(whole, torch.device("cpu"), "fp32")
    with torch.inference_mode():
        assert torch.allclose(task.logits(pixels), scorer(pixels), atol=1e-6)
    assert torch.allclose(scorer(pixels), scorer(pixels.flip(-1)), atol=1e-5)
    answer = Recognizer(whole, None, precision="fp32").recognize([photo(1, 1)])[0]
    assert answer.products[0].probability == pytest.approx(float(scorer(pixels[1:2]).softmax(1).max()), abs=1e-5)


class Left(nn.Module):
    def forward(self, images_BCHW):
        return images_BCHW * (torch.arange(SIZE) < SIZE // 2)


class LeftHalf(nn.Module):
    """Features of the brightness of the left half alone."""

    def __init__(self):
        super().__init__()
        self.left = Left()

    def forward(self, images_BCHW):
        return self.left(images_BCHW).mean((2, 3))


def test_grad_cam_of_a_flipped_answer_shows_what_both_passes_look_at():
    head = nn.Sequential()
    head.logits = nn.Linear(3, 3)
    model = Classifier(LeftHalf(), head)
    with torch.no_grad():
        head.logits.weight.fill_(1.0)
    image = torch.full((3, SIZE, SIZE), 200, dtype=torch.uint8)
    image[:, :16] = 250
    plain, flipped = (grad_cam(Scorer(bundle(model, flip), torch.device("cpu"), "fp32"), image, 1) for flip in (False, True))
    mirrored = grad_cam(Scorer(bundle(model, True), torch.device("cpu"), "fp32"), image.flip(-1), 1)
    assert np.allclose(flipped, mirrored[:, ::-1], atol=1e-5)
    assert (plain[:, SIZE // 2 :] == 0).all()
    assert (plain[:, : SIZE // 2] > 0).all()
    assert (flipped > 0).all()


def test_taggers_have_no_flip():
    with pytest.raises(ConfigError, match=r"input.flip has no meaning for a tagger"):
        parse_recipe({"name": "t", "kind": "tagger", "model": {"arch": "fasterrcnn_tiny", "weights": "none"}, "input": {"flip": True}}, "test")
