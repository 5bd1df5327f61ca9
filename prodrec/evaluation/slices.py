"""Classes by how many training images they have.

Source: Liu et al. 2019, "Large-Scale Long-Tailed Recognition in an Open World" (arXiv 1904.05160): many-shot classes have more
than 100 training images, medium-shot 20 to 100, few-shot fewer than 20. Called head, middle and tail here.
"""

from typing import Literal

SliceName = Literal["head", "middle", "tail"]

SLICES: tuple[SliceName, ...] = ("head", "middle", "tail")

# Most images of a middle class. Source: see above.
MIDDLE_MAX_IMAGES = 100
# Fewest images of a middle class. Source: see above.
MIDDLE_MIN_IMAGES = 20

SLICE_RULES: dict[SliceName, str] = {
    "head": f"over {MIDDLE_MAX_IMAGES} training images",
    "middle": f"{MIDDLE_MIN_IMAGES} to {MIDDLE_MAX_IMAGES}",
    "tail": f"under {MIDDLE_MIN_IMAGES}",
}


def slice_of(train_images: int) -> SliceName:
    """The slice of a class with this many training images; classes without any are tail."""
    if train_images > MIDDLE_MAX_IMAGES:
        return "head"
    return "middle" if train_images >= MIDDLE_MIN_IMAGES else "tail"
