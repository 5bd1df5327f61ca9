"""Small real data that tests make: photos that a tiny model can learn, and shards of them."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def few_regions(arch: str) -> dict[str, int]:
    """Arguments of a detector that make a step of Faster R-CNN cheap: most of its time goes into regions."""
    small = {"box_batch_size_per_image": 16, "rpn_post_nms_top_n_train": 40, "rpn_post_nms_top_n_test": 20}
    return small if arch.startswith("fasterrcnn") else {}


_THIN_VIT = {"depth": 2, "embed_dim": 48, "num_heads": 2}
_THIN_RESNET = {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32]}
_THIN = {
    **dict.fromkeys(["resnet18", "resnet50", "resnet10t"], _THIN_RESNET),
    "convnext_tiny": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    **dict.fromkeys(["vit_b16", "dinov2", "siglip", "clip"], _THIN_VIT),
}


def thin_settings(arch: str) -> list[str]:
    """`--set` of a classifier that make a step of it take a moment: random weights, the smallest input, few layers."""
    import json

    size = 28 if arch == "dinov2" else 32
    sizes = [f"input.size={size}", "augment.start_size=null"]
    return ["model.weights=none", "model.freeze_backbone=false", "model.freeze_layers=0", *sizes, f"model.args={json.dumps(_THIN.get(arch, {}))}"]


COLORS = [(200, 40, 40), (40, 160, 60), (50, 70, 200), (210, 190, 40), (150, 60, 170), (60, 190, 200)]


def photo(label: int, number: int, side: int = 48) -> bytes:
    """A JPEG that a small model can learn: a disc in the label's colour on a noisy grey ground."""
    rng = np.random.default_rng([label, number])
    pixels = rng.normal(128, 25, (side, side, 3))
    y, x = np.mgrid[:side, :side]
    centre = rng.uniform(side * 0.35, side * 0.65, 2)
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < (side * rng.uniform(0.2, 0.35)) ** 2
    pixels[inside] = np.array(COLORS[label % len(COLORS)]) + rng.normal(0, 12, (int(inside.sum()), 3))
    data = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=92)
    return data.getvalue()


def write_image_folder(folder: Path, sizes: dict[str, int]) -> Path:
    """An ImageFolder with `sizes[label]` photos of each label."""
    for number, (label, count) in enumerate(sizes.items()):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            (folder / label / f"{i:03d}.jpg").write_bytes(photo(number, i))
    return folder


def build_shards(folder: Path, sizes: dict[str, int], fractions=(0.6, 0.2, 0.2), earlier: Sequence[str] = ()) -> str:
    """Shards of photos, made without Ray by the functions that `prepare` calls; with the split of earlier ones where they are named."""
    from prodrec.images.decode import prepare_image
    from prodrec.shards.assemble import assemble
    from prodrec.shards.reading import open_shards
    from prodrec.shards.split import Fractions
    from prodrec.shards.staging import stage, start_output

    out = start_output(str(folder))
    rows = []
    for number, (label, count) in enumerate(sizes.items()):
        for i in range(count):
            made = prepare_image(photo(number, i), 48)
            facts = {name: getattr(made, name) for name in ("width", "height", "source_width", "source_height", "sha256", "phash")}
            rows.append(facts | {"image": made.jpeg, "uri": f"{label}/{i}", "label": label, "group": ["even", "odd"][number % 2]})
    stage(out, 0, rows)
    provenance = {"source": "test", "source_format": "test", "code_version": "test", "short_side": 48, "jpeg_quality": 90}
    assemble(out, Fractions(*fractions), provenance, len(rows), [open_shards(uri) for uri in earlier])
    return str(folder)


def scene(number: int, side: tuple[int, int] = (80, 64)) -> tuple[bytes, list[tuple[int, list[float]]]]:
    """A JPEG with none to three discs in the labels' colours, and (label, xyxy box) of each."""
    rng = np.random.default_rng([77, number])
    width, height = side
    pixels = rng.normal(128, 25, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    objects = []
    for place in rng.permutation(3)[: number % 4]:
        label, radius = int(rng.integers(2)), rng.uniform(8, 12)
        centre_x, centre_y = width * (place + 0.5) / 3, rng.uniform(radius, height - radius)
        pixels[(x + 0.5 - centre_x) ** 2 + (y + 0.5 - centre_y) ** 2 < radius**2] = COLORS[label]
        objects.append((label, [centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius]))
    data = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=92)
    return data.getvalue(), objects


def drawn(rows: int, classes: int, temperature: float, seed: int):
    """Logits whose labels are drawn from softmax(logits / temperature): the temperature is the right one."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator) * 2 * temperature
    return logits, torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0]


def coco_tree(count: int, side: tuple[int, int] = (80, 64)) -> dict:
    """COCO instances of `count` scenes, images named 000.jpg, 001.jpg, ..."""
    images, annotations = [], []
    for number in range(count):
        images.append({"id": number, "file_name": f"{number:03d}.jpg", "width": side[0], "height": side[1]})
        for label, (left, top, right, bottom) in scene(number, side)[1]:
            box = [left, top, right - left, bottom - top]
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": label + 10, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    return {"images": images, "annotations": annotations, "categories": [{"id": 10, "name": "red"}, {"id": 11, "name": "green"}]}


def write_coco(folder: Path, count: int) -> Path:
    """A COCO set: annotations/instances.json and images/."""
    import json

    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for number in range(count):
        (folder / "images" / f"{number:03d}.jpg").write_bytes(scene(number)[0])
    (folder / "annotations" / "instances.json").write_text(json.dumps(coco_tree(count)))
    return folder


def build_box_shards(folder: Path, count: int, fractions=(0.6, 0.2, 0.2), labels=("red", "green")) -> str:
    """Shards of scenes with boxes, made without Ray by the functions that `prepare` calls."""
    from prodrec.images.boxes import fit_boxes
    from prodrec.images.decode import prepare_image
    from prodrec.shards.assemble import assemble
    from prodrec.shards.split import Fractions
    from prodrec.shards.staging import stage, start_output

    out = start_output(str(folder))
    rows = []
    for number in range(count):
        data, objects = scene(number)
        made = prepare_image(data, 48)
        said = [{"id": str(i), "label": labels[label], "box": box, "crowd": False} for i, (label, box) in enumerate(objects)]
        fitted = fit_boxes(said, (80, 64), (80, 64), (made.width, made.height))
        facts = {name: getattr(made, name) for name in ("width", "height", "source_width", "source_height", "sha256", "phash")}
        boxes = {"objects": fitted.objects, "boxes_clipped": fitted.clipped, "boxes_rejected": fitted.rejected}
        rows.append(facts | boxes | {"image": made.jpeg, "uri": f"{number}"})
    stage(out, 0, rows)
    assemble(out, Fractions(*fractions), {"source": "test", "source_format": "test", "code_version": "test", "short_side": 48, "jpeg_quality": 90}, len(rows))
    return str(folder)


def run(*arguments):
    """Exit code of the command line; 0 where it returns."""
    from prodrec.cli import main

    try:
        main([str(a) for a in arguments])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def prepare_here(source: Path, out: Path, short_side: int = 48, fractions=(0.6, 0.2, 0.2)) -> str:
    """Shards of a source of images with labels, made without Ray by the functions that `prepare` calls."""
    from prodrec.images.decode import prepare_image
    from prodrec.shards.assemble import assemble
    from prodrec.shards.listing_order import cuts, gathered
    from prodrec.shards.split import Fractions
    from prodrec.shards.staging import stage, start_output
    from prodrec.sources.source import open_source

    listing, ends = gathered(open_source(str(source)).listing, shuffle=True)
    folder = start_output(str(out))
    for number, (start, stop) in enumerate(cuts(ends, 256)):
        rows = []
        for said in listing.slice(start, stop - start).to_pylist():
            made = prepare_image(Path(said["uri"]).read_bytes(), short_side)
            facts = {name: getattr(made, name) for name in ("width", "height", "source_width", "source_height", "sha256", "phash")}
            named = {name: said[name] for name in ("uri", "listing_id", "view", "label", "group", "split")}
            rows.append(named | facts | {"image": made.jpeg})
        stage(folder, number, rows)
    provenance = {"source": "test", "source_format": "test", "code_version": "test", "short_side": short_side, "jpeg_quality": 90}
    assemble(folder, Fractions(*fractions), provenance, len(listing))
    return str(out)


def sided_photo(is_back: bool, design: int, number: int, side: int = 40) -> bytes:
    """A JPEG of one side of a product: a disc (front) or a square (back) in the colour of its design, on a noisy grey ground."""
    rng = np.random.default_rng([5, is_back, design, number])
    pixels = rng.normal(128, 20, (side, side, 3))
    y, x = np.mgrid[:side, :side] - rng.uniform(side * 0.4, side * 0.6, 2)[:, None, None]
    inside = np.maximum(abs(x), abs(y)) < side * 0.28 if is_back else x**2 + y**2 < (side * 0.3) ** 2
    pixels[inside] = np.array(COLORS[design]) + rng.normal(0, 10, (int(inside.sum()), 3))
    data = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=92)
    return data.getvalue()


# Products of `write_listings`: the designs of their fronts and backs. One side alone leaves two of the four.
SIDES = {"aa": (0, 0), "ab": (0, 1), "ba": (1, 0), "bb": (1, 1)}


def write_listings(folder: Path, listings: int) -> Path:
    """A manifest with `listings` listings of each of four products, of 2 to 4 views with both sides; rows are mixed up."""
    rng = np.random.default_rng(3)
    (folder / "images").mkdir(parents=True)
    lines, number = [], 0
    for label, designs in SIDES.items():
        for listing in range(listings):
            count = int(rng.integers(2, 5))
            for view, is_back in enumerate(rng.permutation([True, False, *(rng.random(count - 2) < 0.5)])):
                number += 1
                (folder / "images" / f"{number}.jpg").write_bytes(sided_photo(bool(is_back), designs[bool(is_back)], number))
                lines.append(f"images/{number}.jpg,{label},{label}-{listing},{view}")
    (folder / "manifest.csv").write_text("\n".join(["uri,label,listing_id,view", *rng.permutation(lines)]) + "\n")
    return folder


def progressive_bomb(width: int, height: int, scans: int) -> bytes:
    """A grey progressive JPEG of one DC scan and `scans` + 1 empty AC scans: few bytes, minutes of decoding."""
    import struct

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    blocks = -(-width // 8) * -(-height // 8)
    bits, left = "", blocks
    while left > 0:  # runs of blocks without a coefficient: EOB14
        more = max(0, min(32767, left) - 16384)
        bits, left = bits + f"0{more:014b}", left - 16384 - more
    bits += "1" * (-len(bits) % 8)
    empty = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    tables = segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    tables += segment(0xC4, bytes([0, 1, *[0] * 15, 0])) + segment(0xC4, bytes([0x10, 1, *[0] * 15, 0xE0]))
    dc = segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8))
    ac, refining = (segment(0xDA, b"\1\1\0" + bytes([1, 63, near])) + empty for near in (0x0D, 0xDC))
    return b"\xff\xd8" + tables + dc + ac + refining * scans + b"\xff\xd9"
