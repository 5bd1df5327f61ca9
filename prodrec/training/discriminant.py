"""Linear discriminant analysis: a linear head in closed form, from the means of the classes and the spread that they share.

Were the features of each class k normal around its mean m_k with one covariance S, the best classifier would be

    logits_k = m_k' S^-1 x - m_k' S^-1 m_k / 2 + log p_k            p_k the share of the class

S has D(D+1)/2 numbers, more than a few thousand images tell, so it is drawn to a round one. Source: Friedman 1989 (Regularized
Discriminant Analysis, JASA 84), equation 18:

    S = (1 - shrinkage) W + shrinkage tr(W)/D I                     W the covariance within classes

Shapes: N rows, D features, K classes.
"""

import torch
from torch import nn

from prodrec.models.heads import create_head

# Rows whose products are added up at once, in double. Source: assumed; 0.7 GB at D = 1280.
_ROWS = 65_536
# By how much a class without images stays below the best one. Source: assumed; exp(-20) is 2e-9.
_NEVER = 20.0


def discriminant_head(features_ND: torch.Tensor, labels_N: torch.Tensor, class_weights_K: torch.Tensor, shrinkage: float, power: float) -> nn.Module:
    """A `linear` head with this `power`, in eval mode.

    Args:
        class_weights_K: p_k is the share of the class's images times its weight, as it would be for a loss with weights.
        shrinkage: in (0, 1].
    """
    head = create_head("linear", features_ND.shape[1], len(class_weights_K), 0.0, {"power": power}).to(features_ND.device).eval()
    assert isinstance(head, nn.Sequential)
    seen, logits = head[:-1], head[-1]
    assert isinstance(logits, nn.Linear)
    mean_D = features_ND.new_zeros(features_ND.shape[1], dtype=torch.float64)
    for chunk_RD in features_ND.split(_ROWS):
        mean_D += seen(chunk_RD).double().sum(0) / len(labels_N)
    sums_KD = mean_D.new_zeros(len(class_weights_K), len(mean_D))
    products_DD = mean_D.new_zeros(len(mean_D), len(mean_D))
    for chunk_RD, labels_R in zip(features_ND.split(_ROWS), labels_N.split(_ROWS), strict=True):
        centred_RD = seen(chunk_RD).double() - mean_D
        sums_KD.index_add_(0, labels_R, centred_RD)
        products_DD += centred_RD.T @ centred_RD
    counts_K = labels_N.bincount(minlength=len(class_weights_K))
    weight_KD, bias_K = _discriminant(sums_KD, products_DD, counts_K, class_weights_K, shrinkage)
    with torch.no_grad():
        logits.weight.copy_(weight_KD)
        logits.bias.copy_(bias_K - weight_KD @ mean_D)
    return head


def _discriminant(
    sums_KD: torch.Tensor, products_DD: torch.Tensor, counts_K: torch.Tensor, class_weights_K: torch.Tensor, shrinkage: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and bias of features that are centred, by their sums in each class and their products in all."""
    rows, seen_K = counts_K.sum(), counts_K > 0
    means_KD = sums_KD / counts_K.clamp(min=1)[:, None]
    within_DD = (products_DD - sums_KD.T @ means_KD) / rows
    spread = within_DD.trace() / len(within_DD)
    # Where all images of each class are alike there is no spread, and the nearest mean decides.
    round_DD = torch.eye(len(within_DD), dtype=torch.float64, device=within_DD.device) * (spread if spread > 0 else 1.0)
    weight_KD = torch.linalg.solve((1 - shrinkage) * within_DD + shrinkage * round_DD, means_KD.T).T
    shares_K = (counts_K * class_weights_K.double()).clamp(min=torch.finfo(torch.float64).tiny)
    bias_K = (shares_K / shares_K.sum()).log() - (weight_KD * means_KD).sum(1) / 2
    # Below the best seen class by _NEVER at least, whatever the features: a mean of products is no larger than the largest.
    weight_KD[~seen_K] = weight_KD[seen_K].mean(0)
    bias_K[~seen_K] = bias_K[seen_K].min() - _NEVER
    return weight_KD, bias_K
