"""Colours of any profile come out as they look, on each path: kept, whole, DCT-scaled, shrunk, apart."""

import io
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from prodrec.images.color_spaces import Space, adobe_rgb, by_code_points, profile
from prodrec.images.decode import decode_rgb, prepare_image
from prodrec.images.pictures import upright
from prodrec.images.profiles import _convert, keeps_greys, to_srgb

CASES = Path("/work/shared/cases/icc_profiles")
PRO_PHOTO = Space(((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585)), 1.8)
PROFILES = {"Display P3": by_code_points(12, 13), "Adobe RGB": adobe_rgb(), "ProPhoto": profile(PRO_PHOTO), "BT.2020": by_code_points(9, 13)}


@cache
def picture(side: int = 90) -> Image.Image:
    """Smooth colours that every space of PROFILES holds."""
    y, x = np.mgrid[0:side, 0 : side * 4 // 3] / side
    return Image.fromarray(np.stack([60 + 100 * x, 60 + 120 * y, 190 - 50 * x - 50 * y], -1).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **({"quality": 95, "subsampling": 0} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}) | options)
    return out.getvalue()


def written_in(icc: bytes, image: Image.Image) -> Image.Image:
    """The same look, with the values of this profile."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    return ImageCms.applyTransform(image, ImageCms.buildTransform(ImageCms.createProfile("sRGB"), target, image.mode, image.mode, 1))


def pixels(data: bytes, short_side: int = 1000) -> np.ndarray:
    return decode_rgb(prepare_image(data, short_side).jpeg).permute(1, 2, 0).numpy().astype(float)


def distance(data: bytes, expected: Image.Image) -> float:
    found = pixels(data, min(expected.size))
    return float(np.abs(found - np.asarray(expected.convert("RGB"), dtype=float)).mean())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_comes_out_as_it_looks(name, format):
    changed = written_in(PROFILES[name], picture())
    assert distance(encoded(changed, format, icc_profile=PROFILES[name]), picture()) < 2
    assert distance(encoded(changed, format, icc_profile=b""), picture()) > 4


@pytest.mark.parametrize("name", PROFILES)
def test_photos_that_are_scaled_on_the_way_too(name):
    """By libjpeg where the profile's greys are sRGB's, after conversion where not."""
    large, small = picture(720), picture(720).resize((120, 90), Image.Resampling.BICUBIC)
    data = encoded(written_in(PROFILES[name], large), "JPEG", icc_profile=PROFILES[name])
    assert keeps_greys(PROFILES[name], "RGB") == (name != "ProPhoto")
    assert distance(data, small) < 2


def test_fine_black_and_white_keeps_its_grey():
    """The mean of values in linear light, or in ProPhoto's, is not that of sRGB: they must be converted before they are shrunk."""
    icc = profile(Space(PRO_PHOTO.primaries, 1.0))
    checks = Image.fromarray((np.indices((800, 800)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    for format in ("PNG", "JPEG"):
        assert abs(pixels(encoded(checks, format, icc_profile=icc), 100).mean() - 127.5) < 3


def test_a_small_jpeg_with_a_profile_is_not_kept_and_one_in_srgb_has_none():
    data = encoded(written_in(PROFILES["Display P3"], picture()), "JPEG", icc_profile=PROFILES["Display P3"], quality=80)
    found = prepare_image(data, 90)
    assert found.jpeg != data
    assert "icc_profile" not in Image.open(io.BytesIO(found.jpeg)).info


@pytest.mark.parametrize("icc", [b"no profile", adobe_rgb()[:200], b"\0" * 128, adobe_rgb()[:-40] + b"\xff" * 40, adobe_rgb()[:132] + b"\xff" * 300])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_damaged_profile_is_passed_over(icc, format):
    assert distance(encoded(picture(), format, icc_profile=icc), picture()) < 12  # a curve may be read from what is left of it
    assert to_srgb(b"no profile", "RGB") is None


def test_a_profile_of_another_kind_of_picture_is_passed_over():
    assert distance(encoded(picture().convert("L"), "JPEG", icc_profile=PROFILES["ProPhoto"]), picture().convert("L")) < 2
    assert distance(encoded(picture(), "PNG", icc_profile=grey_profile(1.0)), picture()) < 2


def test_profiles_that_are_srgb_cost_nothing():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    named = srgb.replace(b"sRGB built-in", b"IEC61966-2.1 ")
    assert to_srgb(srgb, "RGB") is None and to_srgb(named, "RGB") is None
    assert by_code_points(1, 13) is None and by_code_points(1, 1) is None and by_code_points(2, 2) is None
    assert to_srgb(PROFILES["Display P3"], "RGB") is to_srgb(bytes(bytearray(PROFILES["Display P3"])), "RGB"), "made anew for each image"


def grey_profile(gamma: float) -> bytes:
    rgb = profile(Space(PRO_PHOTO.primaries, gamma))
    tags = [rgb[128 + 4 + 12 * n : 128 + 16 + 12 * n] for n in range(struct.unpack(">I", rgb[128:132])[0])]
    red = next(tag for tag in tags if tag[:4] == b"rTRC")
    offset, length = struct.unpack(">II", red[4:])
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    table = struct.pack(">I", 2) + b"wtpt" + struct.pack(">II", 156, 20) + b"kTRC" + struct.pack(">II", 176, length)
    body = rgb[16 + 4 : 128].join([rgb[:16] + b"GRAY", table + white + rgb[offset : offset + length]])
    return struct.pack(">I", len(body)) + body[4:]


@pytest.mark.parametrize(("mode", "format"), [("L", "JPEG"), ("L", "PNG"), ("LA", "PNG"), ("L", "TIFF")])
def test_grey_profiles_are_applied(mode, format):
    grey = picture().convert("L")
    linear = grey.point(lambda value: round(255 * (value / 255) ** 2.2))
    data = encoded(linear.convert(mode), format, icc_profile=grey_profile(1.0))
    assert distance(data, grey) < 4


def png_with(*chunks: tuple[bytes, bytes], image: Image.Image) -> bytes:
    plain = encoded(image, "PNG")
    extra = b"".join(struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks)
    return plain[:33] + extra + plain[33:]


P3 = [31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000]


def test_a_png_may_name_its_colours_by_numbers():
    p3 = written_in(PROFILES["Display P3"], picture())
    assert distance(png_with((b"cICP", bytes([12, 13, 0, 1])), image=p3), picture()) < 2
    assert distance(png_with((b"gAMA", struct.pack(">I", 45455)), (b"cHRM", struct.pack(">8I", *P3)), image=p3), picture()) < 2
    assert distance(png_with((b"cICP", bytes([12, 13, 0, 1])), (b"iCCP", b"x\0\0" + zlib.compress(adobe_rgb())), image=p3), picture()) < 2
    linear = picture().point([round(255 * (value / 255) ** 2.2) for value in range(256)] * 3)
    assert distance(png_with((b"gAMA", struct.pack(">I", 100_000)), image=linear), picture()) < 4
    for useless in (
        (b"gAMA", b""),
        (b"gAMA", b"\0\0\0\0"),
        (b"cHRM", struct.pack(">8I", *[0] * 8)),
        (b"cICP", b"\1"),
        (b"iCCP", b"x\0\0damaged"),
        (b"iCCP", b""),
    ):
        assert distance(png_with(useless, image=picture()), picture()) < 2, useless
    srgb_first = png_with((b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000)), image=picture())
    assert distance(srgb_first, picture()) < 2


def test_cameras_name_adobe_rgb_by_a_tag_alone():
    exif = Image.Exif()
    exif[0xA001] = 0xFFFF
    exif.get_ifd(0x8769)[0xA005] = {1: "R03", 2: b"0100"}
    data = encoded(written_in(adobe_rgb(), picture()), "JPEG", exif=exif)
    assert b"R03\0" in data
    assert distance(data, picture()) < 2


def test_cmyk_goes_by_its_profile():
    """A profile made here: no CMYK one may be shipped. Each ink darkens one colour, and black is unused."""
    icc = cmyk_profile()
    inks = Image.merge("CMYK", (*(channel.point(lambda value: 255 - value) for channel in picture().split()), Image.new("L", picture().size)))
    by_profile = pixels(encoded(inks, "TIFF", icc_profile=icc))
    without = pixels(encoded(inks, "TIFF", icc_profile=b""))
    assert np.abs(by_profile - without).mean() > 10


def cmyk_profile() -> bytes:
    """A table of two steps an ink to Lab: inks take light away as a dull printer's do."""
    nodes = np.stack(np.meshgrid(*[[0.0, 1.0]] * 4, indexing="ij"), -1).reshape(-1, 4)
    light = (1 - 0.7 * nodes[:, :3]).mean(1) * (1 - nodes[:, 3])
    lab = np.stack([light, np.full(16, 0.5), np.full(16, 0.5)], 1)
    curve = struct.pack(">HH", 0, 65535)
    lut = b"mft2\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536) + struct.pack(">HH", 2, 2)
    lut += curve * 4 + (lab * 65280).astype(">u2").tobytes() + curve * 3
    rgb = adobe_rgb()
    table = struct.pack(">I", 2) + b"A2B0" + struct.pack(">II", 176, len(lut)) + b"wtpt" + struct.pack(">II", 156, 20)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    body = rgb[:12] + b"prtrCMYKLab " + rgb[24:128] + table + white + lut
    return struct.pack(">I", len(body)) + body[4:]


def test_shown_pictures_and_packshots_are_in_srgb_too():
    data = encoded(written_in(PROFILES["Display P3"], picture()).convert("RGBA"), "PNG", icc_profile=PROFILES["Display P3"])
    for keep_alpha in (False, True):
        shown = upright(data, keep_alpha=keep_alpha)
        assert shown.mode == ("RGBA" if keep_alpha else "RGB")
        assert np.abs(np.asarray(shown.convert("RGB"), dtype=float) - np.asarray(picture(), dtype=float)).mean() < 2


@pytest.mark.skipif(not CASES.exists(), reason=f"the cases are not here: {CASES}")
def test_the_case_of_two_answers_has_the_same_pixels():
    one, other = (pixels((CASES / name).read_bytes()) for name in ("icc_p3.png", "same_in_srgb.png"))
    assert np.abs(one - other).mean() < 1


def test_large_profiles_are_read_and_not_kept():
    icc = PROFILES["Display P3"] + bytes(5_000_000)
    kept = _convert.cache_info().currsize
    assert distance(encoded(written_in(PROFILES["Display P3"], picture()), "JPEG", icc_profile=icc), picture()) < 2
    assert _convert.cache_info().currsize == kept
