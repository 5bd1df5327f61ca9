"""Labels with what the source says of them, for people."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from prodrec.label_photos import photo_id
from prodrec.labels import Label
from prodrec.shards.label_photos import NO_PHOTOS, GivenPhotos
from prodrec.sources.labels import LabelText


class Naming(NamedTuple):
    """What people call the labels, and their photos.

    Attributes:
        fills: whether labels without a given photo get one that is learned from.
    """

    texts: Mapping[str, LabelText] = {}
    photos: GivenPhotos = NO_PHOTOS
    fills: bool = True


def named_labels(names: Sequence[str], kept: pd.DataFrame, naming: Naming, jpegs: Mapping[str, bytes]) -> list[Label]:
    """The labels of these names; `jpegs` are their photos."""
    groups = {label: group for label, group in kept.groupby("label")["group"].first().items() if isinstance(group, str)}
    labels = []
    for name in names:
        said, jpeg = naming.texts.get(name, LabelText()), jpegs.get(name)
        words = {"title": said.title if said.title != name else None, "group_title": said.group_title, "link": said.link}
        labels.append(Label(name=name, group=groups.get(name, said.group), photo=photo_id(jpeg) if jpeg else None, **words))
    return labels
