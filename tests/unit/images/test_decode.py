"""Every input becomes a prepared image or a Reject."""

import hashlib
import io
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from prodrec.errors import Reject, RejectCode
from prodrec.images.color_spaces import adobe_rgb
from prodrec.images.decode import decode_rgb, prepare_image
from prodrec.images.formats import ImageLimits
from prodrec.images.reading import damage_as_reject

GROCERY = Path("/work/shared/data/grocery")
FILES = Path(__file__).parent / "files"
SHORT_SIDE = 64


@cache
def picture(width: int = 120, height: int = 90) -> Image.Image:
    """Smooth colours."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) * 255 // (width + 2 * height)], -1).astype(np.uint8))


def encoded(image: Image.Image, format: str = "JPEG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **({"quality": 95} if format == "JPEG" else {}) | options)
    return out.getvalue()


def pixels(data: bytes, short_side: int = 1000) -> np.ndarray:
    return decode_rgb(prepare_image(data, short_side).jpeg).permute(1, 2, 0).numpy().astype(float)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", RejectCode.NOT_AN_IMAGE),
        (b"a price list", RejectCode.NOT_AN_IMAGE),
        (b"BMW, a car maker, writes no bitmaps of its own", RejectCode.NOT_AN_IMAGE),
        (b"<!DOCTYPE html><html><svg></svg>", RejectCode.NOT_AN_IMAGE),
        (b"\xff\xd8\xff\xe0 and no more", RejectCode.TRUNCATED),
        (png_header(60_000, 60_000), RejectCode.TOO_MANY_PIXELS),
        (png_header(10_001, 10_000), RejectCode.TOO_MANY_PIXELS),
        (png_header(200_000, 100), RejectCode.TOO_MANY_PIXELS),
        (png_header(10_000, 9_999), RejectCode.TRUNCATED),
        (bytes(50_000_001), RejectCode.TOO_LARGE),
    ],
)
def test_bad_input_is_a_reject(data, code):
    with pytest.raises(Reject) as raised:
        prepare_image(data, SHORT_SIDE)
    assert raised.value.code == code
    assert "\n" not in raised.value.detail


def test_a_huge_header_costs_no_memory():
    tracemalloc.start()
    with pytest.raises(Reject, match="60,000 x 60,000"):
        prepare_image(png_header(60_000, 60_000), SHORT_SIDE)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("take", [lambda: bytearray(2**62), lambda: torch.empty(2**60, dtype=torch.uint8)], ids=["Python's", "torch's"])
def test_too_little_memory_is_not_told_as_damage(take):
    with pytest.raises(Reject) as raised, damage_as_reject("PNG"):
        take()
    assert raised.value.code is RejectCode.CRASHED


def test_limits_are_the_callers():
    data = encoded(picture())
    for limits, code in ((ImageLimits(max_bytes=len(data) - 1), "too_large"), (ImageLimits(max_pixels=120 * 90 - 1), "too_many_pixels")):
        with pytest.raises(Reject, match=code):
            prepare_image(data, SHORT_SIDE, limits)
    assert prepare_image(data, SHORT_SIDE, ImageLimits(max_bytes=len(data), max_pixels=120 * 90)).height == SHORT_SIDE


WHOLE = {
    "jpeg": encoded(picture()),
    "jpeg progressive": encoded(picture(), progressive=True),
    "jpeg grey": encoded(picture().convert("L")),
    "jpeg cmyk": encoded(picture().convert("CMYK")),
    "png": encoded(picture(), "PNG"),
    "gif": encoded(picture(), "GIF"),
    "bmp": encoded(picture(), "BMP"),
    "webp": encoded(picture(), "WEBP"),
    "tiff lzw": encoded(picture(), "TIFF", compression="tiff_lzw"),
    "tiff deflate": encoded(picture(), "TIFF", compression="tiff_deflate"),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("tenth", range(1, 10))
def test_truncated_files_never_become_images(name, tenth):
    data = WHOLE[name]
    with pytest.raises(Reject) as raised:
        prepare_image(data[: len(data) * tenth // 10], SHORT_SIDE)
    assert raised.value.code in {RejectCode.TRUNCATED, RejectCode.NOT_AN_IMAGE}


@pytest.mark.parametrize("side", [SHORT_SIDE, 600])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"icc_profile": adobe_rgb()}])
def test_jpegs_that_lack_their_last_rows_are_truncated_on_each_path(side, options):
    data = encoded(picture().resize((side * 4 // 3, side)), **options)
    cuts = [3, 10, 100] if not options.get("progressive") else [100]  # the last bytes of the last scan may say that nothing follows
    for rest in (*(data[:-cut] for cut in cuts), data[:-100] + bytes(200), data[:-100] + b"\xff"):
        with pytest.raises(Reject, match="truncated") as raised:
            prepare_image(rest, SHORT_SIDE)
        assert f"of its {side:,} rows" in raised.value.detail


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("side", [SHORT_SIDE, 600])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpegs_that_lack_only_their_end_marker_are_whole(mode, side, options):
    data = encoded(picture().resize((side * 4 // 3, side)).convert(mode), **options)
    expected = pixels(data, SHORT_SIDE)
    for rest in (data[:-2], data[:-1], data[:-2] + bytes(50), data[:-2] + b"a trailer", data + b"a trailer \xff\xda"):
        assert np.abs(pixels(rest, SHORT_SIDE) - expected).mean() < 1.5, rest[-10:]  # one is kept as it is, the other encoded anew


def test_arithmetic_coding_is_read():
    assert np.abs(pixels((FILES / "arithmetic.jpg").read_bytes()) - drawn()).mean() < 2


def drawn() -> np.ndarray:
    """What the files of this folder show."""
    y, x = np.mgrid[0:90, 0:120]
    return np.stack([x * 2, y * 2, x + y], -1).astype(np.uint8).astype(float)


@pytest.mark.parametrize("name", ["sideways_p3", "ten_bits", "second_is_primary"])
def test_heic_as_phones_write_it(name):
    data = (FILES / f"{name}.heic").read_bytes()
    found = prepare_image(data, 1000)
    assert (found.source_width, found.source_height) == (120, 90)
    assert np.abs(pixels(data) - drawn()).mean() < 2


def test_heic_and_avif_keep_their_limits_and_transparency_and_damage_is_told():
    transparent = pixels((FILES / "alpha.heic").read_bytes())
    assert transparent[:, 70:].min() > 240 and np.abs(transparent - drawn())[:, :50].mean() < 3
    clear = picture().convert("RGBA")
    clear.putalpha(0)
    assert pixels(encoded(clear, "AVIF")).min() > 240
    for data in ((FILES / "ten_bits.heic").read_bytes(), encoded(picture(), "AVIF")):
        with pytest.raises(Reject, match="too_many_pixels"):
            prepare_image(data, SHORT_SIDE, ImageLimits(max_pixels=120 * 90 - 1))
        for share in (0.3, 0.7, 0.95):
            with pytest.raises(Reject, match="truncated"):
                prepare_image(data[: int(len(data) * share)], SHORT_SIDE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_once(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = prepare_image(encoded(picture(), "AVIF", exif=exif), 1000)
    assert (found.source_width, found.source_height) == ((120, 90) if orientation < 5 else (90, 120))


def assert_answered(data: bytes) -> None:
    try:
        found = prepare_image(data, SHORT_SIDE, ImageLimits(max_pixels=1_000_000))
    except Reject as reject:
        assert reject.detail
        return
    again = Image.open(io.BytesIO(found.jpeg))
    assert again.mode in {"RGB", "L"}
    assert again.size == (found.width, found.height)
    assert min(again.size) <= SHORT_SIDE
    assert decode_rgb(found.jpeg).shape == (3, found.height, found.width)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"RIFF\0\0\0\0WEBP"]))
def test_random_bytes_are_answered(tail, head):
    assert_answered(head + tail)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_flipped_bytes_are_answered(name, flips):
    data = bytearray(WHOLE[name])
    for where, value in flips:
        # Squared: headers, where most can go wrong, are hit more often.
        data[int(where * where * len(data))] = value
    assert_answered(bytes(data))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 150))
def test_short_side_shrinks_and_never_enlarges(width, height, short_side):
    found = prepare_image(encoded(picture().resize((width, height)), "BMP"), short_side)
    assert min(found.width, found.height) == min(width, height, short_side)
    assert abs(found.width / found.height - width / height) <= (1 + width / height) / min(found.width, found.height)
    assert (found.source_width, found.source_height) == (width, height)


def test_resize_antialiases_on_each_jpeg_path():
    checks = Image.fromarray(np.indices((1200, 1600)).sum(0).astype(np.uint8) % 2 * 255).filter(ImageFilter.BoxBlur(1))
    for short_side in (400, 100):
        assert pixels(encoded(checks, quality=100), short_side).std() < 6


def test_large_jpegs_by_dct_scaling_look_as_by_full_decoding():
    photo = picture().resize((1600, 1200), Image.Resampling.BICUBIC)
    assert np.abs(pixels(encoded(photo), 200) - pixels(encoded(photo, "PNG"), 200)).mean() < 1


def test_a_plain_small_jpeg_is_kept_byte_for_byte():
    data = encoded(picture(), quality=90)
    found = prepare_image(data, 90)
    assert found.jpeg == data
    assert found.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "options", [{"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"}, {"comment": b"by me"}, {"progressive": True}, {"icc_profile": b"x" * 200}]
)
def test_metadata_and_progressive_coding_are_written_away(options):
    data = encoded(picture(), quality=90, **options)
    found = prepare_image(data, 90)
    assert found.jpeg != data
    assert set(Image.open(io.BytesIO(found.jpeg)).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert len(found.jpeg) < 6_000


def test_an_oversized_small_jpeg_is_encoded_anew():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    data = encoded(noise, quality=100, subsampling=0)
    assert len(prepare_image(data, 90).jpeg) < len(data) / 2


def test_threads_agree_with_one():
    files = list(WHOLE.values()) * 5
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda data: prepare_image(data, SHORT_SIDE), files)) == [prepare_image(data, SHORT_SIDE) for data in files]


def test_decode_rgb_gives_three_uint8_channels_and_refuses_half_a_file():
    jpeg = prepare_image(encoded(picture().convert("L")), SHORT_SIDE).jpeg
    decoded = decode_rgb(jpeg)
    assert decoded.dtype == torch.uint8
    assert decoded.shape == (3, 64, 85)
    with pytest.raises(Reject, match="truncated"):
        decode_rgb(jpeg[: len(jpeg) // 2])


@pytest.mark.skipif(not GROCERY.exists(), reason="real photos are not here: /work/shared/data/grocery")
def test_real_photos_lose_little():
    for path in sorted(GROCERY.glob("val/**/*.jpg"))[::30]:
        data = path.read_bytes()
        found = prepare_image(data, 320)
        assert (found.width, found.height) == (320, 320)
        with Image.open(path) as photo:
            expected = np.asarray(photo.convert("RGB").resize((320, 320), Image.Resampling.BICUBIC), dtype=float)
        # Source: measured, 1.1-2.6 grey levels of JPEG q90.
        assert np.abs(decode_rgb(found.jpeg).permute(1, 2, 0).numpy() - expected).mean() < 4
        assert prepare_image(data, 348).jpeg == data
