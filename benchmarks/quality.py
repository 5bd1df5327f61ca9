"""How well the quality scores tell damaged photos from untouched ones, where their limits lie, and what they cost.

Photos and packshots are prepared as the product prepares them (short side 256 px, JPEG q90), damaged in known ways and encoded
again. Printed: percentiles of each score under each damage; the share that `QualityLimits` flags; how well other measures
of sharpness tell blur (ROC AUC); milliseconds of CPU an image on one thread.

Not covered: damage that the photos have of their own (some are blurred: that is most of the share flagged among the untouched).
"""

import argparse
import math
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import conv2d, pad
from torchvision.transforms.v2 import functional

from prodrec.images.decode import decode_rgb, encode_jpeg, prepare_image
from prodrec.images.quality import WORKING_SIDE_PX, quality
from prodrec.images.quality_scores import Quality, QualityLimits

_SHORT_SIDE_PX = 256
_SEED = 0
_SCORES = Quality._fields[2:]

Damage = Callable[[torch.Tensor], torch.Tensor]


def levels(pixels: torch.Tensor) -> torch.Tensor:
    """Float levels back to uint8."""
    return pixels.round().clamp(0, 255).to(torch.uint8)


def blurred(pixels_CHW: torch.Tensor, sigma_px: float) -> torch.Tensor:
    side = 2 * math.ceil(3 * sigma_px) + 1
    return functional.gaussian_blur(pixels_CHW, [side, side], [sigma_px, sigma_px])


def moved(pixels_CHW: torch.Tensor, length_px: int, degrees: float) -> torch.Tensor:
    """Even motion while the shutter is open: the mean along a line."""
    half, angle = length_px // 2, math.radians(degrees)
    kernel = torch.zeros(length_px, length_px)
    for along in torch.linspace(-half, half, 8 * length_px).tolist():
        kernel[round(half + along * math.sin(angle)), round(half + along * math.cos(angle))] += 1
    padded = pad(pixels_CHW[:, None].float(), [half] * 4, mode="reflect")
    return levels(conv2d(padded, (kernel / kernel.sum())[None, None])[:, 0])


def noisy(pixels_CHW: torch.Tensor, sigma_levels: float) -> torch.Tensor:
    noise = torch.randn(pixels_CHW.shape, generator=torch.Generator().manual_seed(_SEED))
    return levels(pixels_CHW.float() + sigma_levels * noise)


def exposed(pixels_CHW: torch.Tensor, gain: float, gamma: float = 1.0) -> torch.Tensor:
    return levels((pixels_CHW / 255) ** gamma * gain * 255)


def hazy(pixels_CHW: torch.Tensor, contrast: float) -> torch.Tensor:
    return levels(128 + (pixels_CHW - 128.0) * contrast)


def flat(pixels_CHW: torch.Tensor, noise_levels: float) -> torch.Tensor:
    """The photo's mean colour all over."""
    return noisy(levels(pixels_CHW.float().mean((1, 2), keepdim=True)).expand_as(pixels_CHW), noise_levels)


def banded(pixels_CHW: torch.Tensor, share: float, level: int, dims: tuple[int, ...] = (1,)) -> torch.Tensor:
    """Bands of `share / 2` of the side at both ends of each of `dims`, laid over the photo."""
    banded_CHW = pixels_CHW.clone()
    for dim in dims:
        lines = round(pixels_CHW.shape[dim] * share / 2)
        banded_CHW.narrow(dim, 0, lines).fill_(level)
        banded_CHW.narrow(dim, pixels_CHW.shape[dim] - lines, lines).fill_(level)
    return banded_CHW


def cut_out(pixels_CHW: torch.Tensor, share: float, level: int = 255) -> torch.Tensor:
    """An ellipse of `share` of the area on a ground of one level."""
    _, height, width = pixels_CHW.shape
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.where(x * x + y * y < share * 4 / math.pi, pixels_CHW, torch.tensor(level, dtype=torch.uint8))


DAMAGES: dict[str, Damage] = {
    "untouched": lambda pixels_CHW: pixels_CHW,
    **{f"blur {sigma}": partial(blurred, sigma_px=sigma) for sigma in (1, 1.5, 2, 3, 4, 5)},
    "blur 2, noise 3": lambda pixels_CHW: noisy(blurred(pixels_CHW, 2), 3),
    "blur 2, haze 0.35": lambda pixels_CHW: hazy(blurred(pixels_CHW, 2), 0.35),
    **{
        f"motion {length} at {degrees}": partial(moved, length_px=length, degrees=degrees) for length, degrees in ((9, 0), (9, 30), (15, 0), (15, 70), (25, 45))
    },
    "noise 4": partial(noisy, sigma_levels=4),
    **{f"gain {gain}": partial(exposed, gain=gain) for gain in (0.6, 0.4, 0.3, 0.2, 0.1, 1.5, 2, 3)},
    **{f"gamma {gamma}": partial(exposed, gain=1, gamma=gamma) for gamma in (2, 3, 4)},
    **{f"haze {contrast}": partial(hazy, contrast=contrast) for contrast in (0.5, 0.35, 0.2)},
    **{f"flat, noise {noise}": partial(flat, noise_levels=noise) for noise in (0, 3, 6)},
    "bands 0.1 black": partial(banded, share=0.1, level=0),
    "bands 0.3 black": partial(banded, share=0.3, level=0),
    "bands 0.3 white": partial(banded, share=0.3, level=255),
    "frame 0.3 grey": partial(banded, share=0.3, level=190, dims=(1, 2)),
    **{f"on white {share}": partial(cut_out, share=share) for share in (0.6, 0.3, 0.1, 0.03)},
    "on grey 0.3": partial(cut_out, share=0.3, level=200),
}


def faults(scores: Quality, limits: QualityLimits) -> list[str]:
    """What the limits flag; the size is that of the originals."""
    on_white = scores.white_background >= limits.min_white_background
    found = {
        "blurred": scores.sharpness < limits.min_sharpness,
        "dark": scores.darkness > limits.max_darkness,
        "blown": scores.blown > limits.max_blown and not on_white,
        "hazy": scores.contrast < limits.min_contrast,
        "blank": scores.blank > limits.max_blank,
        "border": scores.border > limits.max_border and not on_white,
        "on white": on_white,
    }
    return [name for name, is_so in found.items() if is_so]


def _luma(pixels_CHW: torch.Tensor) -> torch.Tensor:
    side = min(WORKING_SIDE_PX, *pixels_CHW.shape[1:])
    return functional.rgb_to_grayscale(functional.resize(pixels_CHW, [side], antialias=True))[0].float()


def laplacian_variance(pixels_CHW: torch.Tensor) -> float:
    """Pech-Pacheco et al. 2000; about what cleanvision's `blurry` measures (by Pillow's FIND_EDGES)."""
    y = _luma(pixels_CHW)
    return float((y[1:-1, :-2] + y[1:-1, 2:] + y[:-2, 1:-1] + y[2:, 1:-1] - 4 * y[1:-1, 1:-1]).var())


def tenengrad(pixels_CHW: torch.Tensor) -> float:
    """Krotkov 1988, with plain differences."""
    y = _luma(pixels_CHW)
    return float(((y[1:-1, 2:] - y[1:-1, :-2]) ** 2 + (y[2:, 1:-1] - y[:-2, 1:-1]) ** 2).mean())


def curvature_share(pixels_CHW: torch.Tensor) -> float:
    """Variance of the Laplacian over gradient energy."""
    return laplacian_variance(pixels_CHW) / (tenengrad(pixels_CHW) + 1)


def lost_by_blurring(pixels_CHW: torch.Tensor, box_px: int = 9) -> float:
    """Crete et al. 2007: the share of neighbouring differences that a box blur takes away, in the direction that loses less."""
    y, lost = _luma(pixels_CHW), []
    for dim in (0, 1):
        again = y.unfold(dim, box_px, 1).mean(-1)
        before = y.narrow(dim, box_px // 2, again.shape[dim]).diff(dim=dim).abs()
        lost.append(float((before - again.diff(dim=dim).abs()).clamp(min=0).sum() / before.sum().clamp(min=1)))
    return min(lost)


SHARPNESS: dict[str, Callable[[torch.Tensor], float]] = {
    "sharpness (ours)": lambda pixels_CHW: quality(pixels_CHW, (1, 1)).sharpness,
    "Laplacian variance": laplacian_variance,
    "Tenengrad": tenengrad,
    "Laplacian / gradient": curvature_share,
    "blurring again": lost_by_blurring,
}


def auc(higher: list[float], lower: list[float]) -> float:
    """Probability that one of `higher` is above one of `lower`; ties count half."""
    ranked = np.sort(lower)
    below = np.searchsorted(ranked, higher, "left") + np.searchsorted(ranked, higher, "right")
    return float(below.mean() / 2 / len(ranked))


def damaged(photos: list[torch.Tensor], damage: Damage) -> list[torch.Tensor]:
    return [decode_rgb(encode_jpeg(damage(pixels_CHW))) for pixels_CHW in photos]


def print_scores(title: str, photos: list[torch.Tensor], damages: dict[str, Damage]) -> None:
    """Percentiles 1, 50 and 99 of each score, and the share flagged, under each damage."""
    print(f"\n{title}: {len(photos)}; percentiles 1 / 50 / 99\n{'':18}" + "".join(f"{name:>19}" for name in _SCORES))
    lines = []
    for name, damage in damages.items():
        found = [quality(pixels_CHW, (1, 1)) for pixels_CHW in damaged(photos, damage)]
        table = np.percentile([scores[2:] for scores in found], [1, 50, 99], axis=0).T
        print(f"{name:18}" + "".join(f"{' / '.join(f'{value:.2f}' for value in row):>19}" for row in table))
        flagged = [fault for scores in found for fault in faults(scores, QualityLimits())]
        lines.append(f"{name:18}" + ", ".join(f"{fault} {flagged.count(fault) / len(found):.1%}" for fault in dict.fromkeys(flagged)))
    print("\nFlagged by the default limits\n" + "\n".join(lines))


def print_sharpness(photos: list[torch.Tensor]) -> None:
    """AUC, and share told at 1 % of the untouched."""
    names = [name for name in DAMAGES if name.startswith(("blur", "motion", "noise", "haze"))]
    kept = damaged(photos, DAMAGES["untouched"])
    base = {measure: [score(pixels_CHW) for pixels_CHW in kept] for measure, score in SHARPNESS.items()}
    print(f"\nSharpness: AUC, and share told at 1 % of the untouched flagged\n{'':18}" + "".join(f"{measure:>22}" for measure in SHARPNESS))
    for name in names:
        cells, spoilt = [], damaged(photos, DAMAGES[name])
        for measure, score in SHARPNESS.items():
            found = [score(pixels_CHW) for pixels_CHW in spoilt]
            cells.append(f"{auc(base[measure], found):.3f} {np.mean(np.array(found) < np.percentile(base[measure], 1)):.2f}")
        print(f"{name:18}" + "".join(f"{cell:>22}" for cell in cells))


def cpu_ms(work: Callable[[torch.Tensor], object], photos: list[torch.Tensor]) -> float:
    """CPU milliseconds a photo; the least of five rounds, so that a busy machine matters less."""
    rounds = []
    for _ in range(5):
        started = time.thread_time()
        for pixels_CHW in photos:
            work(pixels_CHW)
        rounds.append((time.thread_time() - started) / len(photos) * 1e3)
    return min(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photos, searched through")
    parser.add_argument("packshots", type=Path, help="folder of product photos on white")
    parser.add_argument("--count", type=int, default=500, help="photos (default %(default)s)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    listed = sorted(asked.photos.rglob("*.jpg"))
    paths = random.Random(_SEED).sample(listed, min(asked.count, len(listed)))
    prepared = {side: [decode_rgb(prepare_image(path.read_bytes(), side).jpeg) for path in paths] for side in (WORKING_SIDE_PX, _SHORT_SIDE_PX, 320)}
    packshots = [decode_rgb(prepare_image(path.read_bytes(), _SHORT_SIDE_PX).jpeg) for path in sorted(asked.packshots.glob("*.jpg"))]
    photos = prepared[_SHORT_SIDE_PX]
    print_scores("Photos", photos, DAMAGES)
    print_scores(
        "Packshots", packshots, {name: DAMAGES[name] for name in ("untouched", "blur 1.5", "blur 2", "motion 15 at 0", "gain 0.4", "gain 2", "haze 0.35")}
    )
    print_sharpness(photos[:150])
    print()
    for side, found in prepared.items():
        scores = [quality(pixels_CHW, (1, 1)) for pixels_CHW in found]
        costs = [cpu_ms(work, found[:100]) for work in (lambda pixels_CHW: quality(pixels_CHW, (1, 1)), encode_jpeg)]
        print(f"short side {side}: median sharpness {np.median([s.sharpness for s in scores]):.3f}; scores {costs[0]:.2f} ms, JPEG encoding {costs[1]:.2f} ms")


if __name__ == "__main__":
    main()
