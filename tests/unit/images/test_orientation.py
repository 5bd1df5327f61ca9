"""Boxes of photos that EXIF turns lie where the pixels are, drawn before or after turning."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image

from prodrec.images.boxes import fit_boxes
from prodrec.images.decode import decode_rgb, prepare_image
from prodrec.images.orientation import place_upright, stored_orientation

WIDTH, HEIGHT, BOX = 64, 48, [8, 4, 24, 12]


def photo(orientation: int) -> bytes:
    """Stored black pixels with a white box; EXIF turns them."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=100, exif=exif)
    return data.getvalue()


def objects(box):
    return [{"id": "1", "label": "cup", "box": list(box), "crowd": False}]


def placed(orientation, box=BOX, annotated=(None, None), relative=False, on="auto"):
    data = photo(orientation)
    made = prepare_image(data, 48)
    upright = made.source_width, made.source_height
    found = place_upright(objects(box), annotated, relative, stored_orientation(data), upright, on)
    fitted = fit_boxes(found.objects, found.annotated, upright, (made.width, made.height))
    return found.on, fitted.objects[0]["box"], decode_rgb(made.jpeg).float().mean(0) > 127


def is_on_white(box, white_HW):
    left, top, right, bottom = (round(side) for side in box)
    return bool(white_HW[top:bottom, left:right].all()) and int(white_HW.sum()) == (right - left) * (bottom - top)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("relative", [False, True])
def test_boxes_on_stored_pixels_are_turned_with_them(orientation, relative):
    box = [8 / WIDTH, 4 / HEIGHT, 24 / WIDTH, 12 / HEIGHT] if relative else BOX
    on, found, white = placed(orientation, box, relative=relative, on="stored")
    assert is_on_white(found, white)
    assert on == (None if orientation == 1 else "stored")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_annotated_size_tells_by_itself(orientation):
    on, found, white = placed(orientation, annotated=(WIDTH, HEIGHT))
    assert on == "stored"
    assert is_on_white(found, white)
    on, found, _ = placed(orientation, annotated=(HEIGHT, WIDTH))
    assert (on, found) == ("upright", BOX)


@pytest.mark.parametrize(("orientation", "annotated"), [(6, (None, None)), (3, (WIDTH, HEIGHT)), (2, (None, None))])
def test_what_nothing_tells_is_upright_and_unknown(orientation, annotated):
    on, found, _ = placed(orientation, annotated=annotated)
    assert (on, found) == ("unknown", BOX)


def test_boxes_that_only_one_of_the_pictures_has_room_for_tell():
    assert placed(6, [50, 4, 60, 12])[0] == "stored"
    assert placed(6, [4, 50, 12, 60])[0] == "upright"


def test_what_is_asked_for_holds_where_nothing_tells():
    assert placed(6, on="upright")[:2] == ("upright", BOX)
    assert placed(3, annotated=(WIDTH, HEIGHT), on="stored")[0] == "stored"


def test_a_file_that_is_no_image_or_has_no_exif_is_not_turned():
    assert stored_orientation(b"nothing") == 1
    assert stored_orientation(photo(1)) == 1
