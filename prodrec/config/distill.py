"""The section `distill` of a recipe: a student learns from the answers of a teacher."""

from typing import Annotated

from pydantic import Field

from prodrec.config.frozen import Fraction, Frozen, PositiveFloat


class DistillConfig(Frozen):
    """Learning from the answers that another classifier gives to the same augmented pictures.

    The loss of an image is (1 - weight) * cross-entropy with its label + weight * temperature^2 * KL(teacher || student), both
    softened by the temperature. Source: Hinton et al. 2015 (arXiv 1503.02531), section 2. Teacher and student see the same crop, mixed
    in the same way, and many epochs of it: Beyer et al. 2022 (arXiv 2106.05237), section 3 ("a consistent and patient teacher").

    Attributes:
        teacher: folder of a classifier's bundle that knows all labels of the data. Each training process reads it.
        temperature: by which the logits of both are divided. Source: as Hinton's; 2 is assumed.
        weight: share of the teacher in the loss; 1: labels are not learned from. Source: assumed; Beyer et al. have 1.
    """

    teacher: Annotated[str, Field(min_length=1)]
    temperature: PositiveFloat = 2.0
    weight: Fraction = 0.9
