"""Pixels of every mode keep their look: colours, transparency, orientation."""

import io
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageCms

from prodrec.images import colors
from prodrec.images.colors import to_rgb_or_grey
from prodrec.images.decode import decode_rgb, prepare_image


@cache
def picture() -> Image.Image:
    """Smooth colours, no symmetry: survives JPEG and tells its orientation."""
    y, x = np.mgrid[0:90, 0:120]
    return Image.fromarray(np.stack([x * 2, y * 2, x + y], -1).astype(np.uint8))


def encoded(image: Image.Image, format: str = "JPEG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **({"quality": 95} if format == "JPEG" else {}) | options)
    return out.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return decode_rgb(prepare_image(data, 1000).jpeg).permute(1, 2, 0).numpy().astype(float)


def distance(data: bytes, expected: Image.Image) -> float:
    return float(np.abs(pixels(data) - np.asarray(expected.convert("RGB"), dtype=float)).mean())


def deep(factor: int = 257) -> np.ndarray:
    return np.asarray(picture().convert("L")).astype(np.uint16) * factor


def lab() -> Image.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.applyTransform(picture(), ImageCms.buildTransform(*profiles, "RGB", "LAB"))


def grey() -> Image.Image:
    return picture().convert("L")


# name -> (file, what it must look like, grey levels it may differ by)
MODES = {
    "jpeg rgb": lambda: (encoded(picture()), picture(), 2),
    "jpeg progressive": lambda: (encoded(picture(), progressive=True), picture(), 2),
    "jpeg grey": lambda: (encoded(grey()), grey(), 2),
    "jpeg cmyk, inverted by Adobe": lambda: (encoded(picture().convert("CMYK")), picture(), 2),
    "png rgb": lambda: (encoded(picture(), "PNG"), picture(), 2),
    "png 1 bit": lambda: (encoded(grey().convert("1"), "PNG"), grey().convert("1"), 25),
    "png palette": lambda: (encoded(picture().quantize(64), "PNG"), picture(), 15),
    "png grey alpha": lambda: (encoded(grey().convert("LA"), "PNG"), grey(), 2),
    "png 16 bit": lambda: (encoded(Image.fromarray(deep()), "PNG"), grey(), 2),
    "png 16 bit, dark": lambda: (encoded(Image.fromarray(deep(100)), "PNG"), grey().point(lambda v: v * 100 / 257), 2),
    "tiff 32 bit float 0..1": lambda: (encoded(Image.fromarray((deep() / 65535).astype(np.float32)), "TIFF"), grey(), 2),
    "tiff 32 bit float 0..255": lambda: (encoded(grey().convert("F"), "TIFF"), grey(), 2),
    "tiff 32 bit integer 0..65535": lambda: (encoded(Image.fromarray(deep().astype(np.int32)), "TIFF"), grey(), 2),
    "tiff cmyk": lambda: (encoded(picture().convert("CMYK"), "TIFF"), picture(), 2),
    "tiff ycbcr": lambda: (encoded(picture().convert("YCbCr"), "TIFF"), picture(), 3),
    "tiff lab": lambda: (encoded(lab(), "TIFF"), picture(), 5),
    "tiff jpeg": lambda: (encoded(picture(), "TIFF", compression="jpeg"), picture(), 6),
    "tiff lzw": lambda: (encoded(picture(), "TIFF", compression="tiff_lzw"), picture(), 2),
    "gif, first frame": lambda: (encoded(picture(), "GIF", save_all=True, append_images=[Image.new("RGB", (120, 90))]), picture(), 4),
    "bmp": lambda: (encoded(picture(), "BMP"), picture(), 2),
    "webp": lambda: (encoded(picture(), "WEBP", lossless=True), picture(), 2),
    "mpo, first image": lambda: (encoded(picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (120, 90))]), picture(), 3),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_keeps_its_look(name):
    data, expected, tolerance = MODES[name]()
    assert distance(data, expected) < tolerance


def half_transparent(mode: str) -> Image.Image:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (20, 0, 40, 40))
    return image.convert(mode) if mode != "P" else image.quantize(4)


@pytest.mark.parametrize(("mode", "format"), [("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGBA", "GIF"), ("RGBA", "WEBP"), ("RGBA", "TIFF")])
def test_transparency_becomes_white(mode, format):
    found = pixels(encoded(half_transparent(mode), format))
    assert found[:, :10].max() < 10
    assert found[:, -10:].min() > 245


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    # Stored so that the orientation turns it back: 6 and 8 undo each other.
    stored = picture() if orientation == 1 else picture().transpose(Image.Transpose(turned[orientation]))
    data = encoded(stored, format, exif=exif)
    found = prepare_image(data, 64)
    assert (found.source_width, found.source_height) == (120, 90)
    expected = np.asarray(picture().resize((found.width, found.height), Image.Resampling.BICUBIC), dtype=float)
    assert np.abs(decode_rgb(found.jpeg).permute(1, 2, 0).numpy() - expected).mean() < 5


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("factor", [2, 7])
def test_shrinking_strip_by_strip_is_shrinking_the_whole(monkeypatch, name, factor):
    monkeypatch.setattr(colors, "_STRIP_PIXELS", 3000)
    image = Image.open(io.BytesIO(MODES[name]()[0]))
    image.load()
    expected = to_rgb_or_grey(image).reduce(factor)
    shrunk = to_rgb_or_grey(image, factor)
    assert (shrunk.mode, shrunk.size) == (expected.mode, expected.size)
    np.testing.assert_array_equal(np.asarray(shrunk), np.asarray(expected))


_PEAK = """
from PIL import Image
from prodrec.images.colors import to_rgb_or_grey

def peak_kb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])

to_rgb_or_grey(Image.new("{mode}", (100, 100)), 4)
image, before_kb = Image.new("{mode}", (4000, 4000)), peak_kb()
to_rgb_or_grey(image, 4)
print(peak_kb() - before_kb)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("mode", ["RGBA", "I;16"])
def test_shrinking_holds_no_second_copy(mode):
    """Of 16 megapixels, 64 MB in RGBA: a small file may be that large, and several threads decode."""
    out = subprocess.run([sys.executable, "-c", _PEAK.format(mode=mode)], capture_output=True, text=True, check=True).stdout
    assert int(out) < 40_000
