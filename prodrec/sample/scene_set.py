"""Scenes with boxes for those who have packshots and no boxes: cut-outs pasted on backgrounds, as a COCO set.

    OUT/annotations/instances_{train,val,test}.json     written last: their presence means complete
    OUT/{train,val,test}/NNNNN.jpg
    OUT/labels.csv, OUT/packshots/                      see `prodrec.sample.names`

Source: Dwibedi, Misra & Hebert 2017, "Cut, Paste and Learn", arXiv 1708.01642: random scale, rotation and place, occlusion,
distractors, and edges blended in several ways, so that a detector learns products and not the traces of pasting. A box is the
bounds of the pixels of its object that can be seen. Equal arguments give equal bytes; a scene depends on (seed, its number) alone.
"""

import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from prodrec.errors import ConfigError
from prodrec.files import Folder
from prodrec.labels import label_order
from prodrec.sample.artwork import draw_product
from prodrec.sample.cutouts import CutOut
from prodrec.sample.looks import Rng, Stream, product_look
from prodrec.sample.names import Named, title_of, write_names
from prodrec.sample.photos import lit
from prodrec.sample.scenes import SCENES, Pose, Props, make_props

# Shares of the scenes. Source: assumed.
SPLIT_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
MIN_SIDE_PX, MAX_SIDE_PX = 256, 420
MOST_OBJECTS = 4
# Longer side of an object as a share of the scene's shorter one; its turn, degrees. Source: assumed.
SCALES, TURN = (0.25, 0.6), 25
# Every object stays visible by at least this share, or it is put elsewhere. Source: assumed; less is more box than product.
LEAST_VISIBLE = 0.6
_TRIALS = 20
# Radii of the blur of a cut-out's edge; 0 leaves it hard. Source: Dwibedi et al. section 5: several ways of blending at once.
_BLENDS = (0.0, 0.7, 1.5)
_DISTRACTOR_SHARE = 0.4


class SceneSummary(NamedTuple):
    """What was written: scenes by split, labels, boxes."""

    scenes: dict[str, int]
    labels: int
    boxes: int


class _Pasted(NamedTuple):
    label: int
    mask_HW: NDArray[np.bool_]


def product_cutouts(products: int, seed: int) -> list[CutOut]:
    """The products of the sample catalogue of this seed, named as there."""
    looks = [product_look(seed, number) for number in range(products)]
    return [CutOut(str(number), draw_product(look), title_of(look)) for number, look in enumerate(looks)]


def write_scenes(out: Folder, cutouts: Sequence[CutOut], images: int, seed: int = 0) -> SceneSummary:
    """Composes a COCO set of `images` scenes.

    Args:
        out: an empty folder.
        cutouts: of one label there may be several.

    Raises:
        ConfigError: fewer images than splits, or a negative seed.
        OutputError: the folder cannot be written.
    """
    if images < 10 or seed < 0:
        raise ConfigError(f"images is {images} and seed {seed}; give 10 images or more, and a seed of 0 or above")
    labels = sorted({cutout.label for cutout in cutouts}, key=label_order)
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(labels)]
    ids, props = {name: number + 1 for number, name in enumerate(labels)}, make_props(seed)
    folders = {split: Folder(out / split).make() for split in SPLIT_SHARES}
    trees: dict[str, dict[str, list[Any]]] = {split: {"images": [], "annotations": [], "categories": categories} for split in SPLIT_SHARES}
    for number, split in enumerate(_splits(images)):
        jpeg, size, objects = compose(cutouts, props, np.random.default_rng([Stream.SCENE, seed, number]))
        name, tree = f"{number:05d}.jpg", trees[split]
        folders[split].write(name, jpeg)
        tree["images"].append({"id": number, "file_name": name, "width": size[0], "height": size[1]})
        for label, (left, top, right, bottom) in objects:
            box = [left, top, right - left, bottom - top]
            facts = {"id": len(tree["annotations"]) + 1, "image_id": number, "category_id": ids[label], "bbox": box}
            tree["annotations"].append(facts | {"area": box[2] * box[3], "iscrowd": 0})
    write_names(out, (Named(cutout.label, cutout.title, "", cutout.image) for cutout in cutouts))
    annotations = Folder(out / "annotations").make()
    for split, tree in trees.items():
        annotations.write(f"instances_{split}.json", json.dumps(tree).encode())
    boxes = sum(len(tree["annotations"]) for tree in trees.values())
    return SceneSummary({split: len(tree["images"]) for split, tree in trees.items()}, len(labels), boxes)


def compose(cutouts: Sequence[CutOut], props: Props, rng: Rng) -> tuple[bytes, tuple[int, int], list[tuple[str, tuple[int, int, int, int]]]]:
    """One scene: its JPEG, its (width, height), and label and box of each object (xyxy, whole pixels)."""
    size = (int(rng.integers(MIN_SIDE_PX, MAX_SIDE_PX)), int(rng.integers(MIN_SIDE_PX, MAX_SIDE_PX)))
    backdrop, _ = SCENES[rng.integers(len(SCENES))]
    scene = backdrop(props, Pose(size, min(size) * 0.7, size[0] / 2, size[1] * 0.9, 0.0), rng)
    if rng.random() < _DISTRACTOR_SHARE:
        _paste(scene, props.strangers[rng.integers(len(props.strangers))], rng)
    pasted: list[_Pasted] = []
    for _ in range(rng.integers(1, MOST_OBJECTS + 1)):
        chosen = int(rng.integers(len(cutouts)))
        _place(scene, chosen, cutouts[chosen].image, pasted, rng)
    objects = [(cutouts[item.label].label, _bounds(seen)) for item, seen in zip(pasted, _visible(pasted), strict=True)]
    out = BytesIO()
    lit(scene, rng).save(out, "JPEG", quality=int(rng.integers(60, 96)))
    return out.getvalue(), size, objects


def _place(scene: Image.Image, label: int, cutout: Image.Image, pasted: list[_Pasted], rng: Rng) -> None:
    """Pastes an object where it and all below it stay visible; leaves it out where there is no room."""
    for _ in range(_TRIALS):
        before = scene.copy()
        mask_HW = _paste(scene, cutout, rng)
        tried = [*pasted, _Pasted(label, mask_HW)]
        if all(seen.sum() >= LEAST_VISIBLE * max(1, item.mask_HW.sum()) for item, seen in zip(tried, _visible(tried), strict=True)) and mask_HW.any():
            pasted.append(tried[-1])
            return
        scene.paste(before)


def _visible(pasted: Sequence[_Pasted]) -> list[NDArray[np.bool_]]:
    """Of each object, the pixels that no later one covers."""
    seen: list[NDArray[np.bool_]] = []
    covered: Any = False
    for item in reversed(pasted):
        seen.append(item.mask_HW & ~covered)
        covered = covered | item.mask_HW
    return seen[::-1]


def _paste(scene: Image.Image, cutout: Image.Image, rng: Rng) -> NDArray[np.bool_]:
    """Pastes a cut-out scaled, turned and blended; returns the pixels of the scene that it covers by more than half."""
    scale = rng.uniform(*SCALES) * min(scene.size) / max(cutout.size)
    thing = cutout.resize((max(2, round(cutout.width * scale)), max(2, round(cutout.height * scale))), Image.Resampling.LANCZOS)
    if rng.random() < 0.5:
        thing = thing.rotate(rng.uniform(-TURN, TURN), Image.Resampling.BICUBIC, expand=True)
    blur = _BLENDS[rng.integers(len(_BLENDS))]
    alpha = thing.getchannel("A").filter(ImageFilter.GaussianBlur(blur)) if blur else thing.getchannel("A")
    # An eighth of a thing may lie beyond the edge.
    left, top = (int(rng.integers(-side // 8, max(1, whole - side + side // 8))) for side, whole in zip(thing.size, scene.size, strict=True))
    scene.paste(thing.convert("RGB"), (left, top), alpha)
    cover = Image.new("L", scene.size)
    cover.paste(alpha, (left, top))
    covered: NDArray[np.bool_] = np.asarray(cover) > 127
    return covered


def _bounds(seen_HW: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(seen_HW.any(1)), np.flatnonzero(seen_HW.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _splits(images: int) -> list[str]:
    """Split of each scene: spread evenly, so that a set cut short has all of them."""
    edges = np.cumsum(list(SPLIT_SHARES.values()))
    return [list(SPLIT_SHARES)[int(np.searchsorted(edges, (number * 7 % 10 + 0.5) / 10))] for number in range(images)]
