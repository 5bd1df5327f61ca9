"""Names of splits and lists of images: known as people write them, told where they are not."""

import pytest

from prodrec.errors import SourceError
from prodrec.sources.layouts.split_lists import SplitList, divide_by_lists
from prodrec.sources.splits import split_named, split_of_path

KNOWN = {
    "train": "train Training TRAIN train2017 train_images trainImages train-set trainset trainval35k trn images_train train_v2 valminusminival2014 trainval",
    "val": "val valid Validation VALID val2017 minival dev devset eval evaluation val_images val_5k valid_set",
    "test": "test Testing tests test-dev test-dev2017 testA test_set TEST_IMAGES holdout hold-out held_out test_std testset",
}


@pytest.mark.parametrize(("name", "split"), [(name, split) for split, names in KNOWN.items() for name in names.split()])
def test_names_of_splits_in_common_use_are_known(name, split):
    assert split_named(name) == split
    assert split_of_path(f"annotations/instances_{name}.json") == split


@pytest.mark.parametrize("name", ["toy train", "test tube", "trainers", "valve", "device", "cup", "2017", "", "default", "all", "fold_1", "val_test"])
def test_other_names_are_not(name):
    assert split_named(name) is None


def test_a_split_is_told_by_a_file_or_the_folder_around_it():
    assert split_of_path("valid/_annotations.coco.json") == "val"
    assert split_of_path("data/train/labels.json") == "train"
    assert split_of_path("annotations/instances_default.json") is None


def divided(paths, **lists):
    names = [SplitList(f"{name}.txt", split_named(name) or "", lines) for name, lines in lists.items()]
    splits, kept, notes = divide_by_lists(paths, names, "set")
    return dict(zip(paths, splits, strict=True)), [path for path, keep in zip(paths, kept, strict=True) if keep], " ".join(notes)


@pytest.mark.parametrize(
    "line",
    [
        "p 1",
        "p 1.jpg",
        "./p 1.jpg",
        "JPEGImages/p 1.jpg",
        "VOC2007/JPEGImages/p 1",
        "JPEGImages\\p 1.jpg",
        "C:\\data\\JPEGImages\\p 1.jpg",
        "/home/me/data/JPEGImages/p 1.jpg",
        "P 1.JPG",
        "p 1  1",
        "p 1 -1",
        "p 1.jpg 0",
        '"p 1.jpg"',
        "p 1.jpg\tcup",
        "p 1.jpg,cup",
        "p 1.png",
    ],
)
def test_a_line_is_found_however_it_is_written(line):
    splits, kept, notes = divided(["JPEGImages/p 1.jpg", "JPEGImages/q.jpg"], test=[line], train=["q"])
    assert splits == {"JPEGImages/p 1.jpg": "test", "JPEGImages/q.jpg": "train"}
    assert len(kept) == 2
    assert notes == ""


def test_names_in_other_normal_forms_are_the_same():
    assert divided(["cafe\u0301.jpg", "b.jpg"], test=["caf\u00e9"], train=["b"])[0]["cafe\u0301.jpg"] == "test"


def test_lines_that_name_nothing_are_told_with_an_example():
    _, _, notes = divided(["a.jpg", "b.jpg"], train=["a", "x9", "x8"], test=["b"])
    assert "train.txt: 2 of 3 lines name no image that is here, such as 'x9'" in notes


def test_lists_that_name_nothing_at_all_are_refused():
    with pytest.raises(SourceError, match=r"train.txt name not one of the 1 images \(they say 'x', the images are 'a.jpg'\)"):
        divided(["a.jpg"], train=["x"])


def test_what_no_list_names_is_kept_out_beside_a_list_of_train():
    splits, kept, notes = divided(["a.jpg", "b.jpg", "c.jpg"], train=["a"], test=["b"])
    assert splits["c.jpg"] is None
    assert kept == ["a.jpg", "b.jpg"]
    assert "1 images that no list names, such as 'c.jpg', left out" in notes


def test_what_a_list_of_test_leaves_is_divided_and_told():
    splits, kept, notes = divided(["a.jpg", "b.jpg", "c.jpg"], test=["b"])
    assert splits == {"a.jpg": None, "b.jpg": "test", "c.jpg": None}
    assert len(kept) == 3
    assert "2 images that no list names, such as 'a.jpg', divided" in notes


def test_of_an_image_in_two_lists_the_further_from_training_holds():
    splits, _, notes = divided(["a.jpg", "b.jpg"], train=["a", "b"], test=["b"])
    assert splits == {"a.jpg": "train", "b.jpg": "test"}
    assert "train.txt: 1 images stand in a list further from training too" in notes
    assert divided(["a.jpg", "b.jpg"], trainval=["a", "b"], val=["b"])[0] == {"a.jpg": "train", "b.jpg": "val"}


def test_a_name_with_the_folder_of_another_split_is_not_taken_for_it():
    _, _, notes = divided(["test/1.jpg", "train/2.jpg"], train=["train/1.jpg", "train/2.jpg"], test=["test/1.jpg"])
    assert "train.txt: 1 of 2 lines name no image" in notes


def test_a_name_that_may_be_either_of_two_is_refused():
    with pytest.raises(SourceError, match=r"'1.jpg' may be a/1.jpg or b/1.jpg"):
        divided(["a/1.jpg", "b/1.jpg"], train=["1.jpg"])
