"""Which column of a table is meant for what, by the names that people give them."""

import re
from collections.abc import Iterable, Sequence

from prodrec.errors import SourceError
from prodrec.sources.splits import split_named

# In the order in which they are looked for; without case and separators. Source: names in sets of Kaggle, Hugging Face, Roboflow, TensorFlow.
IMAGE = ["filename", "imagefilename", "imagefile", "imagepath", "imgpath", "imagepaths", "filepath", "filepaths", "file", "path", "uri", "imagename"]
IMAGE += ["imgname", "image", "img", "images", "photo", "picture", "imageid", "imgid", "articleid", "id"]
LABEL = ["labelname", "classname", "categoryname", "productname", "label", "labels", "class", "classes", "category", "categories", "target", "product"]
LABEL += ["productid", "productcode", "sku", "species", "breed", "variety", "cultivar", "itemid", "labelid", "classid", "categoryid", "labelgroup"]
LABEL += ["groundtruth", "landmarkid", "articletype", "producttypename", "producttype", "type", "y"]
SPLIT = ["split", "splits", "subset", "partition", "set", "dataset", "datasplit", "datasetsplit", "imageset", "setname", "splitname", "phase", "usage"]
SPLIT += ["purpose", "fold", "kfold"]
GROUP = ("group", "supercategory", "superclass")
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
    ("bboxxmin", "bboxymin", "bboxxmax", "bboxymax"),
    ("bboxx1", "bboxy1", "bboxx2", "bboxy2"),
)
_FLAGS = {"isvalid": "val", "isval": "val", "isvalidation": "val", "istest": "test", "istesting": "test"}
_YES, _NO = {"1", "true", "yes", "1.0", "t"}, {"0", "false", "no", "0.0", "f", ""}


def folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def meant(names: Iterable[str], wanted: Sequence[str]) -> str | None:
    """The first column that is called by one of the wanted names."""
    by_folded = {folded(name): name for name in reversed([*names])}
    return next((by_folded[name] for name in wanted if name in by_folded), None)


def corners(names: Iterable[str]) -> list[str] | None:
    """Columns of left, top, right and bottom."""
    by_folded = {folded(name): name for name in names}
    return next(([by_folded[name] for name in sides] for sides in _CORNERS if all(name in by_folded for name in sides)), None)


def row_splits(names: Sequence[str], rows: Sequence[dict[str, str | None]], where: str, notes: list[str]) -> list[str | None] | None:
    """The split of each row by a column of splits (`split`, `subset`, `is_valid`, ...); None: there is none.

    Raises:
        SourceError: a column `split` with a name that is not known.
    """
    flag = next((name for name in names if folded(name) in _FLAGS), None)
    if flag and {str(row[flag] or "").lower() for row in rows} <= _YES | _NO:
        held_out = _FLAGS[folded(flag)]
        return [held_out if str(row[flag] or "").lower() in _YES else "train" for row in rows]
    column = meant(names, SPLIT)
    if column is None:
        return None
    known = {value: split_named(value) for row in rows if (value := row[column])}
    strange = next((value for value, split in known.items() if split is None), None)
    if strange is not None and (folded(column) in {"split", "splits"} or any(known.values())):
        raise SourceError(f"{where}: {column} '{strange}' is no known name of a split; use train, val, test (or leave it empty)")
    if strange is not None or not known:
        notes.append(f"{where}: the column {column} is not used as a split: it holds '{strange}'")
        return None
    return [known.get(row[column] or "") for row in rows]
