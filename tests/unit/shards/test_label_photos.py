"""Reference photos of labels: given, or taken from what is learned from; kept beside shards and bundles."""

import io

import pytest
from made import build_box_shards, build_shards, photo
from PIL import Image

from prodrec.files import Folder
from prodrec.label_photos import PHOTO_SIDE_PX, PHOTOS, LabelPhotos, packed_photos, photo_id
from prodrec.shards.label_photos import read_given
from prodrec.shards.reading import open_shards
from prodrec.sources.labels import LabelText


def size(jpeg):
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.size


def test_each_label_gets_a_photo_that_is_learned_from_and_the_same_in_every_prepare(tmp_path):
    shards = open_shards(build_shards(tmp_path / "a", {"red": 9, "green": 9, "blue": 1}))
    labels, train = shards.manifest.labels, shards.split("train")
    assert shards.manifest.photos.taken == 3 and shards.manifest.photos.given == 0
    ids = train.column("label_id").to_pylist()
    first = {label: min(sha for sha, of in zip(train.column("sha256").to_pylist(), ids, strict=True) if of == label) for label in set(ids)}
    for number, label in enumerate(labels):
        row = train.column("sha256").to_pylist().index(first[number])
        assert shards.photos.get(label.photo) is not None
        with Image.open(io.BytesIO(train.image(row))) as source, Image.open(io.BytesIO(shards.photos.get(label.photo))) as kept:
            assert kept.size == source.size
            difference = sum(abs(a - b) for a, b in zip(source.resize((8, 8)).tobytes(), kept.resize((8, 8)).tobytes(), strict=True)) / 192
            assert difference < 6
    again = open_shards(build_shards(tmp_path / "b", {"red": 9, "green": 9, "blue": 1}))
    assert again.manifest.labels == labels
    assert (tmp_path / "a" / PHOTOS).read_bytes() == (tmp_path / "b" / PHOTOS).read_bytes()


def test_where_another_file_was_written_since_no_photo_of_another_label_is_shown(tmp_path):
    first, second, third = photo(0, 0), photo(1, 0), photo(2, 0)
    place = Folder(str(tmp_path))
    place.write(PHOTOS, packed_photos({"b": first, "d": second}))
    photos = LabelPhotos(place)
    assert photos.chosen(["b", "d"]) == {"b": first, "d": second}
    place.write(PHOTOS, packed_photos({"a": third, "b": first, "c": second}))
    assert photos.chosen(["b", "d"]) == {"b": first}


def test_of_photos_with_boxes_the_largest_box_is_cut_out(tmp_path):
    shards = open_shards(build_box_shards(tmp_path / "a", 12))
    for label in shards.manifest.labels:
        width, height = size(shards.photos.get(label.photo))
        assert 10 <= max(width, height) <= 26, "a disc of 16 to 24 px on pictures of 80 x 64"


def test_given_photos_go_before_and_one_that_cannot_be_used_costs_itself_only(tmp_path):
    large = io.BytesIO()
    Image.new("RGBA", (900, 300), (10, 200, 30, 0)).save(large, "PNG")
    (tmp_path / "good.png").write_bytes(large.getvalue())
    (tmp_path / "page.jpg").write_bytes(b"<html>404</html>")
    said = {
        "a": LabelText(photo=str(tmp_path / "good.png")),
        "b": LabelText(photo=str(tmp_path / "page.jpg")),
        "c": LabelText(photo=str(tmp_path / "nowhere.jpg")),
        "d": LabelText(photo="https://shop.example/d.jpg"),
        "e": LabelText(photo=photo(1, 1)),
        "f": LabelText(photo=b""),
        "g": LabelText("no photo"),
    }
    given = read_given(said)
    assert {label: size(jpeg) for label, jpeg in given.jpegs.items()} == {"a": (PHOTO_SIDE_PX, 43), "e": (48, 48)}
    assert [code for code, _ in given.refused] == ["not_an_image", "missing", "missing"]
    assert all(f"the photo of label '{label}': " in line for label, (_, line) in zip("bcd", given.refused, strict=True))
    assert "nowhere.jpg" in given.refused[1][1]


def test_photos_are_found_by_their_id_and_a_lost_file_holds_none(tmp_path):
    jpegs = {photo_id(jpeg): jpeg for jpeg in (photo(1, number, 16) for number in range(150))}
    there, other = Folder(tmp_path / "there"), Folder(tmp_path / "other")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / PHOTOS).write_bytes(packed_photos(jpegs))
    photos = LabelPhotos(other, there)
    assert photos.chosen([*jpegs, "0" * 16, None]) == jpegs
    assert photos.get(min(jpegs)) == jpegs[min(jpegs)] and photos.get("0" * 16) is None
    (tmp_path / "there" / PHOTOS).unlink()
    assert photos.get(min(jpegs)) is None, "taken away since"
    assert LabelPhotos().get("0" * 16) is None
    assert packed_photos({}) == b""


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", b"x" * 2000])
def test_a_damaged_file_holds_no_photo(tmp_path, content):
    (tmp_path / PHOTOS).write_bytes(content)
    assert LabelPhotos(Folder(tmp_path)).get("0" * 16) is None
