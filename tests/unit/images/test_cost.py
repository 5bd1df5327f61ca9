"""What costs too much is refused before a decoder sees it; what is ordinary is known as such."""

import io
import struct
import time
import zlib
from pathlib import Path

import pytest
from made import photo, progressive_bomb
from PIL import Image

from prodrec.errors import Reject, RejectCode
from prodrec.images.cost import MAX_SCANS, cost
from prodrec.images.decode import prepare_image
from prodrec.images.pictures import is_short, upright

FILES = Path(__file__).parent / "files"


def saved(image: Image.Image, format: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


@pytest.mark.parametrize(("side", "scans"), [(7000, 4000), (7000, 60), (2000, 101), (64, 4000), (9999, 25)])
def test_progressive_bombs_are_refused_in_no_time(side, scans):
    data = progressive_bomb(side, side, scans)
    start = time.process_time()
    for work in (lambda: prepare_image(data, 320), lambda: upright(data)):
        with pytest.raises(Reject) as raised:
            work()
        assert raised.value.code is RejectCode.TOO_COSTLY
    assert time.process_time() - start < 0.05


def test_scans_are_found_wherever_they_are_hidden():
    data = progressive_bomb(1000, 1000, 200)
    first = data.index(b"\xff\xda")
    ends_early = data[:first] + b"\xff\xfe\0\x06\xff\xd9\xff\xd9" + data[first:]  # a comment that looks like the end
    for odd in (ends_early, data[:first] + b"\xff" * 50 + data[first:], data.replace(b"\xff\xda", b"\xff\xff\xff\xda")):
        with pytest.raises(Reject, match="too_costly"):
            cost(odd, "JPEG")


def test_photos_as_cameras_and_the_web_have_them_are_short():
    big = Image.new("RGB", (4000, 3000), (90, 120, 40))
    for data in (
        photo(0, 1),
        saved(big, "JPEG"),
        saved(big.resize((2000, 1500)), "JPEG", progressive=True),
        saved(big, "PNG"),
        saved(big.resize((800, 600)), "WEBP"),
    ):
        assert is_short(data)
    thumbnail = saved(big.resize((160, 120)), "JPEG", progressive=True)
    exif = Image.Exif()
    exif[0x9286] = thumbnail
    with_thumbnail = saved(big, "JPEG", exif=exif)
    assert with_thumbnail.count(b"\xff\xda") > 5 and is_short(with_thumbnail)
    assert is_short(with_thumbnail + thumbnail * 200), "what comes behind the end is no scan of this image"


def test_what_may_take_long_is_not_short():
    assert not is_short(saved(Image.new("L", (5100, 5100)), "PNG"))
    assert not is_short(progressive_bomb(3000, 3000, 50))
    frames = {"save_all": True, "append_images": [Image.new("RGB", (20, 20), "red")]}
    for profile in (b"", bytes(100)):
        assert not is_short(saved(Image.new("RGB", (20, 20)), "WEBP", icc_profile=profile, **frames))
    for format in ("GIF", "BMP", "TIFF", "AVIF"):
        assert not is_short(saved(Image.new("RGB", (20, 20)), format))
    assert not is_short((FILES / "sideways_p3.heic").read_bytes())
    assert is_short(b"no image")


def test_sizes_are_told_before_a_decoder_is_asked():
    image = Image.new("RGB", (123, 45))
    for options in ({"lossless": True}, {"quality": 50}, {"quality": 50, "exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}, {"lossless": True, "icc_profile": b"x"}):
        assert cost(saved(image, "WEBP", **options), "WebP").size == (123, 45)
    assert cost(saved(image, "PNG"), "PNG").size == cost(saved(image, "JPEG"), "JPEG").size == (123, 45)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks)


HEADER = (b"IHDR", struct.pack(">IIBBBBB", 40, 40, 8, 0, 0, 0, 0))
PIXELS = (b"IDAT", zlib.compress(bytes(41 * 40)))


def test_pieces_are_counted():
    with pytest.raises(Reject, match="too_costly"):
        prepare_image(png(HEADER, *[(b"tEXt", b"")] * 20_001, PIXELS, (b"IEND", b"")), 32)
    segments = photo(0, 1)[:2] + b"\xff\xfe\0\2" * 3_000 + photo(0, 1)[2:]
    with pytest.raises(Reject, match="too_costly"):
        prepare_image(segments, 32)
    for filling in (b"\xff", b"\xff\0"):
        with pytest.raises(Reject, match="too_costly"):
            prepare_image(photo(0, 1)[:2] + filling * 100_000 + photo(0, 1)[2:], 32)
    assert prepare_image(photo(0, 1)[:2] + b"\xff\xfe\0\2" * 300 + photo(0, 1)[2:], 32).width == 32


def test_of_two_headers_the_first_counts():
    """It is what the limits are held against."""
    other = (b"IHDR", struct.pack(">IIBBBBB", 6000, 6000, 8, 0, 0, 0, 0))
    data = png(HEADER, other, (b"IDAT", zlib.compress(bytes(6001 * 6000))), (b"IEND", b""))
    assert is_short(data)
    assert prepare_image(data, 32).source_width == 40


def test_texts_that_inflate_to_gigabytes_and_profiles_too_are_not_inflated():
    bomb = b"x\0\0" + zlib.compress(bytes(200_000_000), 9)
    for name in (b"zTXt", b"iCCP", b"iTXt"):
        start = time.process_time()
        assert prepare_image(png(HEADER, (name, bomb), PIXELS, (b"IEND", b"")), 32).width == 32
        assert time.process_time() - start < 1


def test_all_scans_that_an_encoder_writes_are_read():
    assert MAX_SCANS > 20
    assert prepare_image(saved(Image.new("RGB", (64, 64)), "JPEG", progressive=True), 32).width == 32
