"""Which column of a table is which: `uri` has many names. What could be two columns is refused, not guessed."""

from collections.abc import Sequence

from prodrec.errors import SourceError
from prodrec.sources.columns import one_line
from prodrec.sources.tables import folded

# What other programs and people call a column, as `folded` writes it. What could be either (a `name`, a `link`, a `title`) is none of them.
_SYNONYMS = {
    "uri": "url image image_uri image_url image_path image_file image_filename image_name image_link img img_url img_path img_name path "
    "file filename file_name filepath file_path photo photo_url photo_path picture picture_url",
    "label": "labels class class_name classname class_label class_id product product_id product_name sku ean gtin category category_name target",
    "group": "super_category supercategory product_group group_name",
    "split": "subset partition",
    "listing_id": "listing listingid offer_id",
    "category": "product_type google_product_category",
}


def find_columns(names: Sequence[str], wanted: Sequence[str], where: str) -> dict[str, str]:
    """Of the wanted columns those that are there, each with its name in the file: its own, the same in other letters, or a synonym.

    Raises:
        SourceError: two columns could be the wanted one.
    """
    known = {name: folded(name) for name in names}
    found: dict[str, str] = {}
    for column in wanted:
        taken = {*found.values(), *wanted} - {column}
        same = [name for name in names if known[name] == column]
        other = [name for name in names if known[name] in _SYNONYMS.get(column, "").split() and known[name] not in taken and name not in taken]
        candidates = [column] if column in names else same or other
        if len(candidates) > 1:
            raise SourceError(f"{where}: the columns {one_line(' and '.join(candidates), 200)} could both be the {column}; name one of them {column}")
        if candidates:
            found[column] = candidates[0]
    return found
