"""Small real data that tests make: photos that a tiny model can learn, and shards of them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

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


def build_shards(folder: Path, sizes: dict[str, int], fractions=(0.6, 0.2, 0.2)) -> str:
    """Shards of photos, made without Ray by the functions that `prepare` calls."""
    from prodrec.data.assemble import assemble, stage, start_output
    from prodrec.data.decode import prepare_image
    from prodrec.data.split import Fractions

    out = start_output(str(folder))
    rows = []
    for number, (label, count) in enumerate(sizes.items()):
        for i in range(count):
            made = prepare_image(photo(number, i), 48)
            facts = {name: getattr(made, name) for name in ("width", "height", "source_width", "source_height", "sha256", "phash")}
            rows.append(
                facts | {"image": made.jpeg, "image_bytes": len(made.jpeg), "uri": f"{label}/{i}", "label": label, "group": ["even", "odd"][number % 2]}
            )
    stage(out, 0, rows)
    assemble(out, Fractions(*fractions), {"source": "test", "source_format": "test", "code_version": "test", "short_side": 48, "jpeg_quality": 90}, len(rows))
    return str(folder)
