"""What is done about long-tailed classes: pure functions of the class counts of the training split.

Splitting always comes before sampling: these see training images only, so a repeated image can never reach val or test.
"""

import numpy as np
import numpy.typing as npt

from prodrec.config import BalanceConfig

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def repeat_factors(counts_K: Ints, config: BalanceConfig) -> Floats:
    """How often an image of each class is shown in one epoch, on average.

    `over`: max(1, sqrt(threshold / f_k)) with f_k the class's share of the images; a threshold of None is 1 / classes that have
    images. Source: Gupta et al. 2019, LVIS, arXiv 1908.03195, section 3 (repeat factor sampling; here classes stand for categories
    of one image).
    `under`: min(1, max_ratio * median / n_k), the median over classes that have images.

    Returns:
        [K] >= 0; 1 where a class has no image.
    """
    present = counts_K > 0
    factors = np.ones(len(counts_K))
    if config.sampling == "over":
        frequency = counts_K[present] / counts_K.sum()
        factors[present] = np.maximum(1.0, np.sqrt((config.threshold or 1 / len(frequency)) / frequency))
    elif config.sampling == "under":
        cap = config.max_ratio * float(np.median(counts_K[present]))
        factors[present] = np.minimum(1.0, cap / counts_K[present])
    return factors


def log_prior(counts_K: Ints, config: BalanceConfig) -> Floats:
    """What is added to the logits in the loss: tau * log(share of each class in what an epoch shows).

    Source: Menon et al. 2021 (arXiv 2007.07314), equation 10. A class without image (of the bundle that training starts from) is
    taken to have one, as the logarithm of nothing has no place in a loss. Source: assumed.

    Returns:
        [K] <= 0; 0 where `logit_adjustment` is off.
    """
    shown = np.maximum(1.0, counts_K * repeat_factors(counts_K, config))
    adjusted: Floats = config.logit_adjustment * np.log(shown / shown.sum())
    return adjusted


def class_weights(counts_K: Ints, config: BalanceConfig) -> Floats:
    """Weights of the loss, scaled so that their mean over the images that an epoch shows is 1.

    Computed from the counts after sampling, so that weights and sampling do not correct the same thing twice.
    `inverse`: 1 / n_k. `inverse_sqrt`: n_k^-1/2. Source: Mahajan et al. 2018 (arXiv 1805.00932), section 2.2, there as sampling.
    `effective`: (1 - beta) / (1 - beta^n_k). Source: Cui et al. 2019, arXiv 1901.05555, eq. 4.

    Returns:
        [K] > 0; 1 where a class has no image.
    """
    shown = counts_K * repeat_factors(counts_K, config)
    present = shown > 0
    weights = np.ones(len(counts_K))
    if config.class_weights == "inverse":
        weights[present] = 1.0 / shown[present]
    elif config.class_weights == "inverse_sqrt":
        weights[present] = shown[present] ** -0.5
    elif config.class_weights == "effective":
        weights[present] = (1 - config.beta) / (1 - config.beta ** shown[present])
    mean = float((weights * shown).sum() / shown.sum())
    return np.where(present, weights / mean, 1.0)
