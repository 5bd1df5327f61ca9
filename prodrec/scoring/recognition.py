"""What is known of one image: values that bulk, HTTP and the command line share."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from prodrec.images.quality_scores import Quality
from prodrec.labels import shown


@dataclass(frozen=True)
class Product:
    """One candidate.

    Attributes:
        probability: calibrated.
        title, group_title, link, photo: as of `prodrec.labels.Label`.
    """

    label: str
    group: str | None
    probability: float
    title: str | None = None
    group_title: str | None = None
    link: str | None = None
    photo: str | None = None

    @property
    def shown(self) -> str:
        """For people: `Blue striped mug (6)`."""
        return shown(self.label, self.title)


@dataclass(frozen=True)
class Tag:
    """One thing on an image: its label, its score (0 to 1, no probability) and its box, xyxy pixels of the upright original.

    Attributes:
        title, link, photo: as of `prodrec.labels.Label`.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]
    title: str | None = None
    link: str | None = None
    photo: str | None = None

    @property
    def shown(self) -> str:
        """For people: `Blue striped mug (6)`."""
        return shown(self.label, self.title)


@dataclass(frozen=True)
class Recognition:
    """What is known of one image.

    Attributes:
        width, height: of the upright original, pixels; None for a reject.
        sha256: hex, of the bytes; phash: see `prodrec.images.phash`; None for a reject.
        products: the likeliest first; () without a classifier.
        energy: -log(sum(exp(logits))): the higher, the stranger the image is to the classifier; None without one.
            Source: Liu et al. 2020 (arXiv 2010.03759), equation 4 with temperature 1.
        tags: the best first; () without a tagger.
        quality: None for a reject.
        embedding: float32 [E] of length 1; None without a classifier that has them. Never compared, and in no JSON.
        timings_ms: by stage (`prepare`, `classify`, `tag`), milliseconds; of a batch's stage an equal share.
        code, detail: why the image could not be used; None where it could.
    """

    width: int | None = None
    height: int | None = None
    sha256: str | None = None
    phash: int | None = None
    products: tuple[Product, ...] = ()
    energy: float | None = None
    tags: tuple[Tag, ...] = ()
    quality: Quality | None = None
    embedding: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    timings_ms: dict[str, float] = field(default_factory=dict, compare=False)
    code: str | None = None
    detail: str | None = None
