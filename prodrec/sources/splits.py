"""What people call the splits: names of folders, files, columns and their values."""

import re
from itertools import pairwise

# What people call the splits, without case, digits and separators. "eval" is what a training run looks at, so val; COCO 2014's
# valminusminival was learned from. Source: names of COCO, Pascal-VOC, Hugging Face, Kaggle, Roboflow, Ultralytics, torchvision.
_NAMES = {
    "train": ("train", "training", "trn", "minitrain", "trainval", "trainvalid", "trainvalidation", "valminusminival", "learn", "learning"),
    "val": ("val", "valid", "validation", "validate", "validating", "minival", "dev", "develop", "development", "eval", "evaluation"),
    "test": ("test", "testing", "tst", "minitest", "testdev", "teststd", "teststandard", "testchallenge", "holdout", "heldout", "testval"),
}
_SPLIT_OF = {name + end: split for split, names in _NAMES.items() for name in names for end in ("", "set", "s", "list", "lists", "split", "files")}
# Of these lists the others take away: trainval holds val too.
_BOTH = ("trainval", "trainvalid", "trainvalidation")
# Words beside the name of a split that do not make it another thing.
_FILLERS = {"images", "image", "imgs", "img", "photos", "photo", "pictures", "pics", "jpegimages", "data", "dataset", "set", "split", "splits", "subset"}
_FILLERS |= {"samples", "part", "of", "full", "final", "clean", "a", "b", "c", "v", "k", "coco", "voc", "autosplit", "list", "lists"}
_FILLERS |= {"ids", "id", "idx", "index", "indices", "file", "files", "filename", "filenames", "names", "paths"}


def split_named(name: str) -> str | None:
    """The split that a whole name stands for, as `Train`, `val2017`, `test-dev` or `train_images`; None: it is no name of a split."""
    return _SPLIT_OF.get("".join(word for word in _words(name) if word not in _FILLERS))


def split_of_path(path: str) -> str | None:
    """The split that the path of an annotation file tells, by a word of its name (`instances_val2017.json`) or by a folder."""
    *folders, last = path.split("/")
    words = [word for word in _words(last.partition(".")[0]) if word not in _FILLERS]
    pairs = [first + second for first, second in pairwise(words)]
    said = next((_SPLIT_OF[word] for word in reversed([*words, *pairs]) if word in _SPLIT_OF), None)
    return said or split_of_folders("/".join(folders))


def split_of_folders(path: str) -> str | None:
    """The split that the innermost folder with such a name tells."""
    return next((split for name in reversed(path.split("/")) if (split := split_named(name))), None)


def holds_both(path: str) -> bool:
    """Whether a list or file is of training and validation images together."""
    return "".join(word for word in _words(path.rpartition("/")[2].partition(".")[0]) if word not in _FILLERS).endswith(_BOTH)


def _words(name: str) -> list[str]:
    """Letters alone, lower case; `trainImages` is two words."""
    return [word.lower() for run in re.findall(r"[^\W\d_]+", name) for word in re.findall(r"[A-Z]?[^A-Z]+|[A-Z]+(?![^A-Z])", run)]
