"""Which column of a table is which, by the names that people and programs give them.

Where nothing but its name tells what a column holds, what could be two is refused (`find_columns`); beside images the first that is
there is taken (`meant`), as what it holds is looked at.
"""

from collections.abc import Iterable, Sequence

from prodrec.errors import SourceError
from prodrec.sources.columns import one_line
from prodrec.sources.tables import folded

# As `folded` writes them, in the order in which they are looked for. Source: names in sets of Kaggle, Hugging Face, Roboflow, TensorFlow.
_NAMES = {
    "uri": "filename imagefilename imagefile imagepath imgpath photopath imagepaths filepath filepaths file path uri imagename imgname image img images photo"
    " picture imageid imgid articleid id",
    "label": "labelname classname categoryname productname label labels class classlabel classes category categories target product productid productcode"
    " sku ean gtin species breed variety cultivar itemid labelid classid categoryid labelgroup groundtruth landmarkid articletype"
    " producttypename producttype type y",
    "group": "group groupname supercategory superclass productgroup",
    "split": "split splits subset partition set dataset datasplit datasetsplit imageset setname splitname phase usage purpose fold kfold",
    "listing_id": "listingid listing offerid",
    "category": "category producttype googleproductcategory",
}
# Addresses are looked for in manifests alone, as beside images nothing is fetched.
_ADDRESSES = {"uri": "url imageuri imageurl imagelink imgurl photourl pictureurl"}
# What may be meant by these, a name alone does not tell: an `id` is a row's number as often as an image's.
_BESIDE_IMAGES = {
    "uri": "imagepaths filepaths images imageid imgid articleid id",
    "label": "classes categories productcode species breed variety cultivar itemid labelid categoryid labelgroup groundtruth landmarkid articletype"
    " producttypename producttype type y",
    "split": "splits set dataset datasplit datasetsplit imageset setname splitname phase usage purpose fold kfold",
}


def find_columns(names: Sequence[str], wanted: Sequence[str], where: str) -> dict[str, str]:
    """Of the wanted columns those that are there, each with its name in the file: its own, the same in other letters, or a synonym.

    Raises:
        SourceError: two columns could be the wanted one.
    """
    known = {name: folded(name) for name in names}
    found: dict[str, str] = {}
    for column in wanted:
        taken = {*found.values(), *map(folded, wanted)} - {folded(column)}
        same = [name for name in names if known[name] == folded(column)]
        synonyms = {*_NAMES.get(column, "").split(), *_ADDRESSES.get(column, "").split()} - {*_BESIDE_IMAGES.get(column, "").split()}
        other = [name for name in names if known[name] in synonyms and known[name] not in taken and name not in taken]
        candidates = [column] if column in names else same or other
        if len(candidates) > 1:
            raise SourceError(f"{where}: the columns {one_line(' and '.join(candidates), 200)} could both be the {column}; name one of them {column}")
        if candidates:
            found[column] = candidates[0]
    return found


def meant(names: Iterable[str], *wanted: str) -> str | None:
    """The first column that is called as people call the wanted one beside images; None: there is none.

    Args:
        wanted: of the names above; of others, how they are called.
    """
    by_folded = {folded(name): name for name in reversed([*names])}
    return next((by_folded[name] for one in wanted for name in _NAMES.get(one, one).split() if name in by_folded), None)
