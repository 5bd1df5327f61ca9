"""What a classifier says of images: the one way of validation, evaluation and serving."""

from torch import Tensor, nn

from prodrec.models.registry import Classifier


def classified(model: nn.Module, images_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits and embeddings out of one forward pass.

    Args:
        model: a Classifier in eval mode, or any module to logits.
        images_BCHW: normalised, float [B, 3, S, S].

    Returns:
        Logits [B, K]; embeddings float32 [B, E] of length 1, None where the model has none.
    """
    if isinstance(model, Classifier):
        return model.described(images_BCHW)
    return model(images_BCHW), None
