"""Fusing the views of a listing: between a backbone, which sees each image once, and a head, which sees listings.

images of B listings -> backbone -> features_ND -> padded to features_BVD -> fused_BF -> head -> logits_BK

N images of all listings together, V views of the longest listing, D features of the backbone, F of the fusion. mask_BV is True
where there is a view. What is padded never changes an answer: means and softmaxes leave it out, and the LSTM comes to it last.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

# Of the LSTM's state. Source: assumed; features of the small CNNs here have 512.
LSTM_WIDTH = 256
# Of the attention's hidden layer. Source: Ilse et al. 2018 (arXiv 1802.04712), section 4.
ATTENTION_WIDTH = 128


class Padded(NamedTuple):
    """features_BVD, zero where mask_BV (bool) is False."""

    features_BVD: Tensor
    mask_BV: Tensor


def pad_views(features_ND: Tensor, lengths_B: Tensor) -> Padded:
    """Features of listings, one after the other, in a row each.

    Args:
        lengths_B: int64 on the CPU, 1 or more; their sum is N. Places are reckoned there, so that a GPU is never waited for.
    """
    mask_BV = torch.arange(int(lengths_B.max())) < lengths_B[:, None]
    places_N = mask_BV.flatten().nonzero()[:, 0].to(features_ND.device, non_blocking=True)
    padded = features_ND.new_zeros(mask_BV.numel(), features_ND.shape[1]).index_copy(0, places_N, features_ND)
    return Padded(padded.unflatten(0, mask_BV.shape), mask_BV.to(features_ND.device, non_blocking=True))


class Fusion(nn.Module):
    """Features of images to features of listings.

    Args:
        width: F.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features_ND: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """fused_BF of the views of listings, one after the other; without lengths_B each image is a listing of its own."""
        return self.fuse(pad_views(features_ND, torch.ones(len(features_ND), dtype=torch.int64) if lengths_B is None else lengths_B))

    def fuse(self, views: Padded) -> Tensor:
        """fused_BF."""
        raise NotImplementedError


class MeanFusion(Fusion):
    """The mean over the views; their order does not matter. F = D."""

    def fuse(self, views: Padded) -> Tensor:
        return views.features_BVD.sum(1) / views.mask_BV.sum(1, keepdim=True)


class AttentionFusion(Fusion):
    """A mean weighted by a learned importance of each view; their order does not matter. F = D.

    a_v = softmax over v of w^T tanh(U h_v).  Source: Ilse et al. 2018 (arXiv 1802.04712), equations 7 and 8.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.scores = nn.Sequential(nn.Linear(features, ATTENTION_WIDTH, bias=False), nn.Tanh(), nn.Linear(ATTENTION_WIDTH, 1, bias=False))

    def fuse(self, views: Padded) -> Tensor:
        weights_BV1 = self.weights(views)[..., None]
        return (views.features_BVD * weights_BV1).sum(1)

    def weights(self, views: Padded) -> Tensor:
        """[B, V], the share of each view; 0 where there is none."""
        scores_BV = self.scores(views.features_BVD)[..., 0]
        return scores_BV.masked_fill(~views.mask_BV, -torch.inf).softmax(1)


class LstmFusion(Fusion):
    """The state of an LSTM after a listing's last view. F = LSTM_WIDTH.

    One direction: what is padded comes behind the last view and cannot change the state there, so nothing needs to be packed (which
    would sort on the CPU and wait for a GPU).  Source: Hochreiter & Schmidhuber 1997, with forget gates (Gers et al. 2000).
    """

    def __init__(self, features: int) -> None:
        super().__init__(LSTM_WIDTH)
        self.lstm = nn.LSTM(features, LSTM_WIDTH, batch_first=True)

    def fuse(self, views: Padded) -> Tensor:
        # In float32: small beside the backbone, and rounding would add up along the sequence.
        with torch.autocast(views.features_BVD.device.type, enabled=False):
            states_BVF, _ = self.lstm(views.features_BVD.float())
        last_B = views.mask_BV.sum(1) - 1
        states_BF: Tensor = states_BVF[torch.arange(len(last_B), device=last_B.device), last_B]
        return states_BF


FUSIONS: dict[str, type[MeanFusion | AttentionFusion | LstmFusion]] = {"lstm": LstmFusion, "mean": MeanFusion, "attention": AttentionFusion}


def create_fusion(kind: Literal["lstm", "mean", "attention"], features: int) -> Fusion:
    """A fusion of views with `features` numbers each, with random weights; its attribute `width` is F."""
    return FUSIONS[kind](features)
