import csv
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prodrec.errors import ConfigError, OutputError
from prodrec.sample import SampleSummary, catalogue, write_sample
from prodrec.sample.catalogue import photo_counts

PRODUCTS, IMAGES, SEED = 5, 24, 3


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SampleSummary]:
    out = tmp_path_factory.mktemp("sample") / "catalogue"
    return out, write_sample(out, PRODUCTS, IMAGES, SEED)


def rows(out: Path, split: str) -> list[dict[str, str]]:
    with (out / f"{split}.csv").open() as file:
        return list(csv.DictReader(file))


def good(out: Path, split: str) -> list[dict[str, str]]:
    return [row for row in rows(out, split) if not row["name"].startswith("broken_")]


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_the_summary_counts_what_is_listed(sample: tuple[Path, SampleSummary]) -> None:
    out, summary = sample
    train, test = good(out, "train"), good(out, "test")
    assert summary == SampleSummary(products=PRODUCTS, groups=2, train=len(train), test=len(test), broken=len(rows(out, "train")) - len(train))
    assert summary.train + summary.test == IMAGES
    assert summary.broken == 4


def test_csv_files_have_the_columns_of_products_10k(sample: tuple[Path, SampleSummary]) -> None:
    for split in ("train", "test"):
        lines = (sample[0] / f"{split}.csv").read_text().splitlines()
        assert lines[0] == "name,class,group"
        assert all(int(row["group"]) == int(row["class"]) // 4 for row in rows(sample[0], split))


def test_files_and_rows_agree_but_for_the_missing_one(sample: tuple[Path, SampleSummary]) -> None:
    out, _ = sample
    for split, missing in (("train", {"broken_missing.jpg"}), ("test", set())):
        listed = [row["name"] for row in rows(out, split)]
        assert len(set(listed)) == len(listed)
        assert set(listed) - {path.name for path in (out / split).iterdir()} == missing
        assert {path.name for path in (out / split).iterdir()} <= set(listed)


def test_every_product_is_in_both_splits(sample: tuple[Path, SampleSummary]) -> None:
    for split in ("train", "test"):
        assert {int(row["class"]) for row in good(sample[0], split)} == set(range(PRODUCTS))


def test_good_photos_decode_and_vary_in_shape(sample: tuple[Path, SampleSummary]) -> None:
    sizes = set()
    for split in ("train", "test"):
        for row in good(sample[0], split):
            with Image.open(sample[0] / split / row["name"]) as photo:
                photo.load()
                assert (photo.format, photo.mode) == ("JPEG", "RGB")
                assert all(240 <= side <= 480 for side in photo.size)
                sizes.add(photo.size)
    assert len(sizes) > IMAGES // 2
    assert {width > height for width, height in sizes} == {True, False}


def test_no_photo_comes_twice(sample: tuple[Path, SampleSummary]) -> None:
    photos = [data for name, data in contents(sample[0]).items() if name.endswith(".jpg")]
    assert len(set(photos)) == len(photos)


def test_broken_files_are_broken_each_in_its_way(sample: tuple[Path, SampleSummary]) -> None:
    train = sample[0] / "train"
    assert (train / "broken_empty.jpg").read_bytes() == b""
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(train / "broken_text.jpg")
    with Image.open(train / "broken_truncated.jpg") as photo, pytest.raises(OSError, match="truncated"):
        photo.load()


def test_a_photo_depends_on_seed_product_and_number_alone(sample: tuple[Path, SampleSummary], tmp_path: Path) -> None:
    write_sample(tmp_path / "small", 2, 6, SEED)
    write_sample(tmp_path / "again", 2, 6, SEED)
    write_sample(tmp_path / "other", 2, 6, SEED + 1)
    small, again, other = (contents(tmp_path / name) for name in ("small", "again", "other"))
    assert small == again
    photos = {name for name in small if name.startswith("train/0")}
    assert len(photos) == 4
    assert all(small[name] == contents(sample[0])[name] for name in photos)
    assert all(small[name] != other[name] for name in photos)


def test_a_write_that_fails_leaves_no_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def full_disk(*_: object) -> bytes:
        taken.append(1)
        if len(taken) == 3:
            raise OutputError("no space")
        return b"photo"

    monkeypatch.setattr(catalogue, "take_photo", full_disk)
    with pytest.raises(OutputError, match="no space"):
        write_sample(tmp_path, 2, 6)
    assert len(contents(tmp_path)) == 2
    assert not list(tmp_path.glob("*.csv"))


@settings(deadline=None, max_examples=60)
@given(products=st.integers(2, 300), surplus=st.integers(0, 5000), seed=st.integers(0, 2**40))
def test_counts_add_up_and_leave_every_product_enough(products: int, surplus: int, seed: int) -> None:
    counts = photo_counts(products, 3 * products + surplus, seed)
    assert len(counts) == products
    assert sum(train + test for train, test in counts) == 3 * products + surplus
    assert all(train >= 2 and test >= 1 for train, test in counts)
    assert all(abs(test - 0.25 * (train + test)) <= 0.5 for train, test in counts)


@pytest.mark.parametrize("seed", range(5))
def test_the_default_catalogue_has_a_long_tail(seed: int) -> None:
    train, test = np.array(photo_counts(24, 1200, seed)).T
    assert (train == 2).sum() >= 2
    assert train.max() >= 5 * np.median(train)
    assert 0.2 <= test.sum() / 1200 <= 0.3


def test_the_head_of_the_catalogue_moves_with_the_seed() -> None:
    assert len({int(np.argmax([train for train, _ in photo_counts(24, 1200, seed)])) for seed in range(8)}) > 1


@pytest.mark.parametrize(
    ("products", "images", "seed", "message"),
    [(1, 100, 0, "products is 1; give 2 or more"), (10, 29, 0, "images is 29; 10 products need 30 or more"), (2, 6, -1, "seed is -1; give 0 or more")],
)
def test_numbers_out_of_range_are_named_before_anything_is_written(tmp_path: Path, products: int, images: int, seed: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_sample(tmp_path / "out", products, images, seed)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"not empty \(it holds holiday.jpg\); choose another folder or empty it"):
        write_sample(tmp_path, 2, 6)
    assert contents(tmp_path) == {"holiday.jpg": b"mine"}


@pytest.mark.parametrize("out", ["taken", "taken/below"])
def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path, out: str) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OutputError, match=r"cannot write .*taken") as caught:
        write_sample(tmp_path / out, 2, 6)
    assert "\n" not in str(caught.value)


def test_the_truncated_photo_is_the_start_of_a_good_one(sample: tuple[Path, SampleSummary]) -> None:
    part = (sample[0] / "train" / "broken_truncated.jpg").read_bytes()
    whole = (sample[0] / "train" / good(sample[0], "train")[0]["name"]).read_bytes()
    assert whole.startswith(part)
    assert Image.open(BytesIO(part)).size == Image.open(BytesIO(whole)).size
