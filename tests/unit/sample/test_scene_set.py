"""Scenes: exact boxes, equal bytes for equal seeds, and cut-outs from any packshot."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from prodrec.errors import ConfigError, Reject, SourceError
from prodrec.files import Folder
from prodrec.sample import product_cutouts, read_cutouts, write_scenes
from prodrec.sample.cutouts import CutOut, cut_out
from prodrec.sample.scene_set import _place, compose
from prodrec.sample.scenes import make_props
from prodrec.sources.source import open_source

ICONIC = Path("/work/shared/data/grocery/iconic.csv")


@pytest.fixture(scope="module")
def props():
    return make_props(0)


def packshot(color=(200, 30, 30), ground=(255, 255, 255), save="JPEG", box=(30, 50, 90, 130)):
    image = Image.new("RGB", (120, 160), ground)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=color)
    out = io.BytesIO()
    image.save(out, save)
    return out.getvalue()


@pytest.mark.parametrize("seed", range(12))
def test_boxes_are_the_bounds_of_what_is_seen(props, seed):
    """Of squares in colours that no background has: found again in the picture by their colour."""
    colors = [(255, 0, 255), (0, 255, 0)]
    cutouts = [CutOut(name, Image.new("RGBA", (90, 60), (*color, 255))) for name, color in zip("ab", colors, strict=True)]
    jpeg, size, objects = compose(cutouts, props, np.random.default_rng(seed))
    pixels = np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
    assert size == (pixels.shape[1], pixels.shape[0])
    assert objects
    for label, (left, top, right, bottom) in objects:
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        inside = pixels[top:bottom, left:right]
        purple = (inside[..., 0] > inside[..., 1] + 60) & (inside[..., 2] > inside[..., 1] + 60)
        green = (inside[..., 1] > inside[..., 0] + 60) & (inside[..., 1] > inside[..., 2] + 60)
        of_label = purple if label == "a" else green
        assert of_label.mean() > 0.3
        for edge in (of_label[:3], of_label[-3:], of_label[:, :3], of_label[:, -3:]):
            assert edge.any(), "the box is not larger than what is seen"


def test_scenes_are_a_coco_set_with_all_splits_and_repeat_with_their_seed(tmp_path):
    for name in ("one", "two"):
        summary = write_scenes(Folder(tmp_path / name).make(), product_cutouts(3, 1), 20, 1)
    assert summary.scenes == {"train": 14, "val": 2, "test": 4}
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 23 + 4, "labels.csv and a packshot of each product"
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)
    source = open_source(str(tmp_path / "one"))
    assert source.format == "coco"
    assert "20 examples, 3 classes" in source.description and "labels.csv names 3 of them" in source.description
    assert all(Path(uri).is_file() for uri in source.listing["uri"].to_pylist())
    boxes = sum(len(json.loads(path.read_text())["annotations"]) for path in (tmp_path / "one" / "annotations").iterdir())
    assert boxes == summary.boxes >= 20


def test_occluded_objects_stay_visible():
    cutout, hidden = Image.new("RGBA", (60, 60), (255, 0, 255, 255)), []
    for seed in range(40):
        scene, pasted, rng = Image.new("RGB", (300, 260)), [], np.random.default_rng(seed)
        for _ in range(4):
            _place(scene, 0, cutout, pasted, rng)
        for number, item in enumerate(pasted):
            later = np.logical_or.reduce([np.zeros_like(item.mask_HW), *(other.mask_HW for other in pasted[number + 1 :])])
            hidden.append((item.mask_HW & later).sum() / item.mask_HW.sum())
    assert len(hidden) > 100
    assert 0.2 < max(hidden) <= 0.4, "some are covered, none by more than 40 %"


@pytest.mark.parametrize("save", ["JPEG", "PNG"])
def test_a_packshot_on_white_is_cut_out(save):
    made = cut_out(packshot(save=save))
    assert made.mode == "RGBA"
    assert made.size == pytest.approx((60, 80), abs=3)
    assert np.asarray(made.getchannel("A"))[10:-10, 10:-10].min() == 255


def test_white_within_a_product_stays():
    image = Image.open(io.BytesIO(packshot(save="PNG")))
    ImageDraw.Draw(image).rectangle((50, 80, 69, 99), fill=(255, 255, 255))
    out = io.BytesIO()
    image.save(out, "PNG")
    assert np.asarray(cut_out(out.getvalue()).getchannel("A"))[10:-10, 10:-10].min() == 255


def test_alpha_goes_before_white():
    image = Image.new("RGBA", (50, 40))
    ImageDraw.Draw(image).ellipse((10, 5, 39, 34), fill=(255, 255, 255, 255))
    out = io.BytesIO()
    image.save(out, "PNG")
    assert cut_out(out.getvalue()).size == pytest.approx((30, 30), abs=1)


def test_a_magenta_product_is_cut_out_whole():
    for color in ((255, 0, 255), (255, 0, 0)):
        image = Image.open(io.BytesIO(packshot(color=color, save="PNG")))
        ImageDraw.Draw(image).rectangle((50, 80, 69, 99), fill=(255, 0, 255))
        out = io.BytesIO()
        image.save(out, "PNG")
        assert np.asarray(cut_out(out.getvalue()).getchannel("A"))[10:-10, 10:-10].min() == 255


NO_PACKSHOTS = [(packshot(ground=(90, 120, 60)), "rim is not white"), (packshot(color=(255, 255, 255)), "packshot"), (b"text", "begins with")]


@pytest.mark.parametrize(("data", "words"), NO_PACKSHOTS)
def test_what_is_no_packshot_says_why(data, words):
    with pytest.raises(Reject, match=words):
        cut_out(data)


def test_folders_of_packshots(tmp_path):
    (tmp_path / "labels" / "cup").mkdir(parents=True)
    (tmp_path / "labels" / "cup" / "1.jpg").write_bytes(packshot())
    (tmp_path / "labels" / "cup" / "2.jpg").write_bytes(packshot(ground=(10, 10, 10)))
    (tmp_path / "labels" / "jug.png").write_bytes(packshot(save="PNG"))
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "bowl.png").write_bytes(packshot(save="PNG"))
    cutouts, refused = read_cutouts(str(tmp_path / "labels"))
    assert [cutout.label for cutout in cutouts] == ["cup", "jug"], "folders and images named by their label, side by side"
    assert len(refused) == 1
    assert "2.jpg: it has no alpha" in refused[0]
    assert [cutout.label for cutout in read_cutouts(str(tmp_path / "flat"))[0]] == ["bowl"]
    (tmp_path / "flat" / "bowl.png").write_bytes(b"text")
    with pytest.raises(SourceError, match="no usable packshot"):
        read_cutouts(str(tmp_path / "flat"))
    with pytest.raises(SourceError, match="is no folder"):
        read_cutouts(str(tmp_path / "nowhere"))


def test_too_few_scenes_for_all_splits_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="give 10 images or more"):
        write_scenes(Folder(tmp_path), product_cutouts(2, 0), 9)
