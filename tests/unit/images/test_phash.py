"""Near-duplicates share their hash but for a few bits."""

import io

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prodrec.images.decode import prepare_image
from prodrec.images.phash import difference_hash, hamming


def photo(seed: int) -> Image.Image:
    """Soft random blobs: structure at the scale that a photo has it."""
    cells = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((240, 180), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 95) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.4, 3.0), st.integers(40, 100))
def test_resized_and_recompressed_copies_are_near(seed, scale, quality):
    copy = photo(seed).resize((round(240 * scale), round(180 * scale)), Image.Resampling.BICUBIC)
    # 4 of 64 bits: cells of nearly equal brightness may swap.
    assert hamming(prepare_image(jpeg(photo(seed)), 128).phash, prepare_image(jpeg(copy, quality), 128).phash) <= 4


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_other_images_are_far(seed, offset):
    assert hamming(prepare_image(jpeg(photo(seed)), 128).phash, prepare_image(jpeg(photo(seed + offset)), 128).phash) >= 10


def test_bits_are_rises_from_the_top_left():
    rising = torch.arange(0, 252, 7, dtype=torch.uint8).expand(1, 32, 36)
    assert difference_hash(rising) == 2**64 - 1
    assert difference_hash(rising.flip(2)) == 0
    half = torch.cat([rising[:, :16], rising[:, 16:].flip(2)], 1)
    assert difference_hash(half) == (2**32 - 1) << 32
    assert difference_hash(half.expand(3, -1, -1)) == difference_hash(half)


def test_any_size_hashes_to_64_bits():
    for shape in ((1, 1, 1), (3, 1, 500), (3, 500, 1), (1, 7, 5)):
        assert 0 <= difference_hash(torch.randint(0, 256, shape, dtype=torch.uint8)) < 2**64


def test_hamming_counts_bits():
    assert hamming(0, 2**64 - 1) == 64
    assert hamming(0b1010, 0b0110) == 2
