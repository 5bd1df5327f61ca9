"""The table of layouts: the first that fits is taken."""

from collections.abc import Callable
from dataclasses import dataclass

from prodrec.sources.layouts.coco import find_coco, list_coco
from prodrec.sources.layouts.csv_beside import find_csv, list_csv, names_must_be_looked_for
from prodrec.sources.layouts.cvat import find_cvat, list_cvat
from prodrec.sources.layouts.fiftyone import find_fiftyone, list_fiftyone
from prodrec.sources.layouts.imagefolder import find_imagefolder, list_imagefolder
from prodrec.sources.layouts.labelme import find_createml, find_labelme, list_createml, list_labelme
from prodrec.sources.layouts.labelstudio import find_labelstudio, list_labelstudio
from prodrec.sources.layouts.listed import Listed
from prodrec.sources.layouts.metadata import find_metadata, list_metadata
from prodrec.sources.layouts.openimages import find_openimages, list_openimages
from prodrec.sources.layouts.products10k import find_products10k, list_products10k
from prodrec.sources.layouts.tree import Tree
from prodrec.sources.layouts.voc import find_voc, list_voc
from prodrec.sources.layouts.webdataset import find_webdataset, list_webdataset
from prodrec.sources.layouts.yolo import find_yolo, list_yolo
from prodrec.sources.manifests import list_manifests, manifest_names
from prodrec.sources.tables import TABLE_SUFFIXES


@dataclass(frozen=True)
class Layout:
    """One way of laying out images and what is told of them.

    Attributes:
        name: of `--format`.
        sign: by which it is recognised, for people.
        find: the annotation files (or folders) that it has here; none: it is not this layout.
        list: lists their images.
        suffixes: of a single file of it that may be given instead of the folder.
    """

    name: str
    sign: str
    find: Callable[[Tree], list[str]]
    list: Callable[[Tree, list[str]], Listed]
    suffixes: tuple[str, ...] = ()


def find_manifests(tree: Tree) -> list[str]:
    """The one called `manifest`, or Parquet files that are all that is there."""
    if tree.only:
        others = tree.asked == "auto" and (find_openimages(tree) or names_must_be_looked_for(tree))
        return [tree.only] if tree.only.lower().endswith(TABLE_SUFFIXES) and not others else []
    return manifest_names(tree.folder, tree.tops)


LAYOUTS = (
    Layout("products10k", "train.csv (name, class, group), images in train/ and test/", find_products10k, list_products10k),
    Layout(
        "manifest",
        "manifest.csv, .tsv or .parquet (uri or bytes, label), or Parquet files alone",
        find_manifests,
        lambda tree, names: list_manifests(tree.folder, names),
        TABLE_SUFFIXES,
    ),
    Layout("metadata", "metadata.csv, .jsonl or .parquet (file_name, label or objects): Hugging Face's image folder", find_metadata, list_metadata),
    Layout("coco", "JSON with images, annotations and categories", find_coco, list_coco, (".json",)),
    Layout("labelstudio", "JSON of tasks with data and annotations", find_labelstudio, list_labelstudio, (".json",)),
    Layout("fiftyone", "labels.json (classes, labels) beside data/, or samples.json", find_fiftyone, list_fiftyone, (".json",)),
    Layout("createml", "JSON of images with annotations and coordinates", find_createml, list_createml, (".json",)),
    Layout("labelme", "a JSON file with shapes and imagePath for each image", find_labelme, list_labelme),
    Layout("cvat", "XML <annotations> of CVAT for images 1.1", find_cvat, list_cvat, (".xml",)),
    Layout("voc", "an XML file <annotation> for each image", find_voc, list_voc),
    Layout("openimages", "CSV with ImageID, LabelName, XMin, ...", find_openimages, list_openimages, (".csv",)),
    Layout("yolo", "text files with class and box for each image, data.yaml, classes.txt or obj.names", find_yolo, list_yolo, (".yaml", ".yml")),
    Layout("csv", "a CSV, TSV or Parquet file that names the images beside it, with labels or boxes", find_csv, list_csv, TABLE_SUFFIXES),
    Layout("webdataset", "tar archives with KEY.jpg and KEY.cls, .json or .txt", find_webdataset, list_webdataset, (".tar",)),
    Layout("imagefolder", "a folder of images for each label, such as blue-mug/1.jpg", find_imagefolder, list_imagefolder),
)
FORMATS = tuple(layout.name for layout in LAYOUTS)


def layout_named(name: str) -> Layout:
    return next(layout for layout in LAYOUTS if layout.name == name)
