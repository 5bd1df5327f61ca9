"""Progressive resizing: small training images first, the full side in the end.

Source: Tan & Le 2021 (EfficientNetV2, arXiv 2104.00298), section 4: the side grows by stages of equal length. NOT taken over: their
augmentation grows with it.
"""

import numpy as np

from prodrec.config import Recipe
from prodrec.config.recipe import SIDE_STEP


def training_sides(recipe: Recipe) -> list[int]:
    """Side of the training images of each epoch, pixels; the last is that of evaluation."""
    start, size, epochs = recipe.augment.start_size or recipe.input.size, recipe.input.size, recipe.train.epochs
    stages = [*range(start, size, SIDE_STEP), size]
    if len(stages) > epochs:
        stages = [stages[number] for number in np.linspace(len(stages) - 1, 0, epochs).round().astype(int)[::-1]]
    return [stages[epoch * len(stages) // epochs] for epoch in range(epochs)]
