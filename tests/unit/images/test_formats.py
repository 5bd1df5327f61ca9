"""Formats are known by their first bytes."""

import io

import pytest
from PIL import Image

from prodrec.errors import Reject, RejectCode
from prodrec.images.formats import image_format

UNREAD = {
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "JPEG XL": b"\xff\x0a\x80",
    "PSD": b"8BPS\0\x01",
    "SVG": b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="x">',
    "PDF": b"%PDF-1.7",
    "PNM": b"P6\n3 2\n255\n",
}


@pytest.mark.parametrize("name", UNREAD)
def test_known_formats_that_are_not_read_are_named(name):
    with pytest.raises(Reject, match=f"{name} is not read") as raised:
        image_format(UNREAD[name])
    assert raised.value.code == RejectCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("name", ["ICO", "DDS", "JPEG2000"])
def test_files_as_pillow_writes_them_are_known_and_not_read(name):
    out = io.BytesIO()
    Image.new("RGB", (32, 32)).save(out, name)
    with pytest.raises(Reject) as raised:
        image_format(out.getvalue())
    assert raised.value.code == RejectCode.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF"])
def test_files_as_pillow_writes_them_are_read(name):
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, name)
    assert image_format(out.getvalue()) == name


@pytest.mark.parametrize(
    ("brands", "name"),
    [("heic0000mif1heic", "HEIC"), ("mif10000mif1heic", "HEIC"), ("mif10000mif1avifmiaf", "AVIF"), ("avis0000avismsf1", "AVIF"), ("msf10000hevcmsf1", "HEIC")],
)
def test_heif_is_told_by_its_brands(brands, name):
    assert image_format(b"\0\0\0\x20ftyp" + brands.encode()) == name


@pytest.mark.parametrize("data", [b"\0\0\0\x18ftypmp42", b"PK\x03\x04", b"<svgless>", b"P6 is a phone", b"\x1f\x8b\x08\0"])
def test_what_is_no_image_is_quoted(data):
    with pytest.raises(Reject, match="begins with b") as raised:
        image_format(data)
    assert raised.value.code == RejectCode.NOT_AN_IMAGE
