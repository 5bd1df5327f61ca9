"""Sides of the training images: small ones first, and in the end those of evaluation, or smaller ones.

Source: Tan & Le 2021 (EfficientNetV2, arXiv 2104.00298), section 4: the side grows by stages of equal length. NOT taken over: their
augmentation grows with it. Touvron et al. 2019 (FixRes, arXiv 1906.06423), section 3: a random resized crop shows things larger than
evaluation does, so evaluation at a larger side than that of training sees them as they were learned.
"""

import numpy as np

from prodrec.config import Recipe
from prodrec.config.recipe import SIDE_STEP


def training_sides(recipe: Recipe) -> list[int]:
    """Side of the training images of each epoch, pixels; it never falls."""
    end, epochs = recipe.augment.end_size or recipe.input.size, recipe.train.epochs
    start = recipe.augment.start_size or end
    stages = [*range(start, end, SIDE_STEP), end]
    if len(stages) > epochs:
        stages = [stages[number] for number in np.linspace(len(stages) - 1, 0, epochs).round().astype(int)[::-1]]
    return [stages[epoch * len(stages) // epochs] for epoch in range(epochs)]
