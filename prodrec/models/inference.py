"""What a classifier says of images: the one way of validation, evaluation and serving."""

from torch import Tensor, nn
from torch.nn import functional as F

from prodrec.models.registry import Classifier


def classified(model: nn.Module, images_BCHW: Tensor, flip: bool, *lengths_B: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits and embeddings out of one forward pass, or of two with `flip`.

    Args:
        model: a Classifier in eval mode, or any module to logits.
        images_BCHW: normalised, float [B, 3, S, S].
        flip: the bundle's `input.flip`: the answer is the mean with that to the mirrored images.
        lengths_B: views of each listing, for a model that fuses them.

    Returns:
        Logits [B, K]; embeddings float32 [B, E] of length 1, None where the model has none.
    """
    logits_BK, embedding_BE = _described(model, images_BCHW, *lengths_B)
    if not flip:
        return logits_BK, embedding_BE
    mirrored_BK, mirrored_BE = _described(model, images_BCHW.flip(-1), *lengths_B)
    logits_BK = (logits_BK.float() + mirrored_BK.float()) / 2
    if embedding_BE is None or mirrored_BE is None:
        return logits_BK, None
    return logits_BK, F.normalize(embedding_BE + mirrored_BE, dim=1)


def _described(model: nn.Module, images_BCHW: Tensor, *lengths_B: Tensor) -> tuple[Tensor, Tensor | None]:
    return model.described(images_BCHW, *lengths_B) if isinstance(model, Classifier) else (model(images_BCHW, *lengths_B), None)
