"""The folder of a bundle: `model.safetensors`, `README.md`, `photos.parquet` where labels have photos and, written last, `bundle.json`.

Needs no torch, which takes seconds to import. What the weights mean: prodrec.models.bundle.
"""

import hashlib
import json
import shutil
import uuid
from pathlib import Path

from pyarrow import fs

from prodrec.errors import BundleError, OutputError, SourceError
from prodrec.files import Folder, writing
from prodrec.label_photos import PHOTOS
from prodrec.models.bundle_info import COPY_AGAIN, BundleInfo, parse_info
from prodrec.models.card import model_card

WEIGHTS, CARD, INFO = "model.safetensors", "README.md", "bundle.json"
# In a registry's folder of a kind: names the version that is current. Written by prodrec.registry.releases.
POINTER = "current.json"
# In the order in which they are written; photos.parquet is not in every bundle.
_FILES = (WEIGHTS, PHOTOS, CARD, INFO)


def bundle_folder(folder: str | Path) -> Folder:
    """Where a bundle lies: the folder itself, or of a registry's folder (REGISTRY/classifier) the version that is current now.

    What reads a bundle more than once asks once: a promotion may come between.

    Raises:
        BundleError: a place that cannot be opened, or a pointer that cannot be read.
    """
    try:
        place = Folder(folder)
    except SourceError as error:
        raise BundleError(str(error)) from error
    if place.exists(INFO) or not place.exists(POINTER):
        return place
    try:
        return Folder(place / json.loads(place.read(POINTER))["version"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise BundleError(f"{place / POINTER} names no version: {error!r}; write it again by `prodrec registry promote`") from error


def load_info(folder: str | Path, kind: str | None = None) -> BundleInfo:
    """What a bundle says about itself; its weights are not read. As `load_bundle` for the rest."""
    place = bundle_folder(folder)
    return parse_info(read_file(place, INFO), place / INFO, kind)


def check_bundle(folder: str | Path, kind: str | None = None) -> BundleInfo:
    """As `load_info`, once the weights are found to be those of the bundle.

    Raises:
        BundleError: as `load_info`, or changed weights.
    """
    place = bundle_folder(folder)
    info = parse_info(read_file(place, INFO), place / INFO, kind)
    check_weights(read_file(place, WEIGHTS), info, place / WEIGHTS)
    return info


def copy_bundle(source: str | Path, target: str | Path) -> None:
    """Copies a bundle; a reader sees all of it or none.

    Raises:
        BundleError: as `load_info`, or changed weights.
        OutputError: the place cannot be written, or other files are there.
    """
    info, place = load_info(source), bundle_folder(source)
    files = {name: read_file(place, name) for name in _FILES if name != PHOTOS or place.exists(name)}
    check_weights(files[WEIGHTS], info, place / WEIGHTS)
    write_files(target, files)


def rewrite_info(folder: str | Path, info: BundleInfo) -> None:
    """Replaces what a bundle says about itself; its weights stay.

    Raises:
        BundleError: it is one of a registry.
        OutputError: the place cannot be written.
    """
    place = Folder(folder)
    if place.exists(POINTER) or Folder(place.uri.rpartition("/")[0]).exists(POINTER):
        raise BundleError(f"{place.uri} belongs to a registry, whose versions stay as they are; change the bundle that was promoted, then promote it again")
    place.write(CARD, model_card(info).encode())
    place.write(INFO, info.model_dump_json(indent=2).encode())


def write_files(folder: str | Path, files: dict[str, bytes]) -> None:
    """Writes the files of a bundle, by name; a reader sees all of them or none.

    Raises:
        OutputError: the place cannot be written, or other files are there.
    """
    target = Folder(folder)
    with writing(target.uri):
        _check_free(target)
    if isinstance(target.filesystem, fs.LocalFileSystem):
        _write_aside(Path(target.path), files)
    else:
        _write_in_place(target, files)


def read_file(place: Folder, name: str) -> bytes:
    """One file of a bundle.

    Raises:
        BundleError: it is missing or cannot be read.
    """
    try:
        return place.read(name)
    except FileNotFoundError as error:
        raise BundleError(f"{place.uri} is no complete bundle: {name} is missing; give the folder that training wrote, such as RUN/bundle") from error
    except OSError as error:
        raise BundleError(f"cannot read {place / name}: {' '.join(str(error).split())}; check the path and its permissions") from error


def check_weights(data: bytes, info: BundleInfo, where: str) -> None:
    """Raises: BundleError: they are not those of the bundle."""
    found = hashlib.sha256(data).hexdigest()
    if found != info.weights_sha256:
        raise BundleError(f"{where} was changed or cut short: sha256 {found[:12]}..., bundle.json says {info.weights_sha256[:12]}...; {COPY_AGAIN}")


def _check_free(target: Folder) -> None:
    """Only a bundle, whole or begun, is ever replaced."""
    strangers = sorted(name for item in target.names() if (name := item.base_name) not in _FILES and not name.endswith(".part"))
    if strangers:
        raise OutputError(f"cannot write the bundle {target.uri}: it holds other files ({', '.join(strangers[:3])}); choose another folder")


def _write_in_place(target: Folder, files: dict[str, bytes]) -> None:
    """Object stores cannot rename folders: without bundle.json there is no bundle, so it goes first and comes last."""
    with writing(target.uri):
        target.delete(INFO)
        target.delete(PHOTOS)  # those of another bundle
    target.make()
    for name in _FILES:
        if name in files:
            target.write(name, files[name])


def _write_aside(path: Path, files: dict[str, bytes]) -> None:
    """Writes into a sibling folder and renames it into place."""
    tag = uuid.uuid4().hex[:8]
    aside, old = (path.with_name(f".{path.name}.{tag}.{end}") for end in ("part", "old"))
    try:
        _write_in_place(Folder(aside), files)
        with writing(str(path)):
            _swap(aside, path, old)
    except OutputError as error:
        raise OutputError(str(error).replace(str(aside), str(path))) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(new: Path, path: Path, old: Path) -> None:
    """If the new folder cannot take its place, the old one is back where it was."""
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
