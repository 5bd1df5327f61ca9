"""What a trained classifier must do with photos that mean the same to a person."""

import io

import pytest
import torch
from made import photo
from PIL import Image, ImageEnhance

from prodrec.cli import main
from prodrec.images.decode import decode_rgb, prepare_image
from prodrec.images.transforms import Normalizer, resize
from prodrec.models.bundle import load_bundle

LABELS = {"red": 0, "green": 1, "blue": 2, "yellow": 3}
UNSEEN = range(500, 520)


@pytest.fixture(scope="module")
def recognise(small_shards, tmp_path_factory):
    """Image bytes to the name of a label, by the way of a bundle on disk."""
    run = tmp_path_factory.mktemp("behaviour") / "run"
    settings = ["train.epochs=12", "input.size=32", "train.batch_size=16", "optim.lr=0.01", "data.threads=1", "augment.policy=light", "train.ema_decay=0"]
    try:
        main(["train", small_shards, "--recipe", "custom_cnn", "--out", str(run), "--local", *(p for s in settings for p in ("--set", s))])
    except SystemExit as stop:
        assert not stop.code
    bundle = load_bundle(run / "bundle")
    normalizer = Normalizer(bundle.info.input)

    def name_of(data):
        pixels = resize(decode_rgb(prepare_image(data, 48).jpeg), bundle.info.input)
        with torch.inference_mode():
            return bundle.info.labels[int(bundle.model(normalizer(pixels[None])).argmax())].name

    return name_of


def changed(data, change, **save):
    out = io.BytesIO()
    change(Image.open(io.BytesIO(data))).save(out, save.pop("format", "JPEG"), **save)
    return out.getvalue()


def test_it_names_photos_that_it_has_not_seen(recognise):
    right = [recognise(photo(number, i)) == name for name, number in LABELS.items() for i in UNSEEN]
    assert sum(right) / len(right) > 0.85


@pytest.mark.parametrize(
    ("change", "save"),
    [
        (lambda image: image, {"quality": 60}),
        (lambda image: image, {"format": "PNG"}),
        (lambda image: image.resize((96, 96)), {"quality": 92}),
        (lambda image: ImageEnhance.Brightness(image).enhance(1.08), {"quality": 92}),
        (lambda image: image.convert("RGBA"), {"format": "PNG"}),
    ],
    ids=["recompressed", "as PNG", "enlarged", "brighter", "with alpha"],
)
def test_what_a_person_would_not_notice_changes_no_name(recognise, change, save):
    photos = [photo(number, i) for number in LABELS.values() for i in UNSEEN]
    same = [recognise(data) == recognise(changed(data, change, **dict(save))) for data in photos]
    assert sum(same) / len(same) >= 0.95
