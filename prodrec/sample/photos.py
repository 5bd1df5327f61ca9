"""Photos of the sample catalogue's products: pose, shadow, occlusion, light, camera, JPEG.

Not covered: what the products look like (`looks`, `artwork`) and what is around them (`scenes`).
Shapes: H, W of the photo, 240..480 pixels. Source of every probability and range: assumed, tuned until a CNN of three
blocks from scratch names about 75-92 % of the test photos.
"""

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from prodrec.sample.artwork import SIDE_PX
from prodrec.sample.looks import Grid, Rng
from prodrec.sample.scenes import SCENES, Pose, Props, as_image, scaled

MIN_SIDE_PX, MAX_SIDE_PX = 240, 480
EXIF_SHARE = 0.04  # photos stored turned, with an orientation tag, as phones do
OCCLUDED_SHARE = 0.6
BLURRED_SHARE = 0.4
LYING_TILT = 0.26  # radians from which a product cannot be standing
ORIENTATION_TAG = 0x0112  # Source: EXIF 2.32, tag Orientation
# How pixels are stored for each orientation tag. Source: EXIF 2.32; 6 means "turn by 90 degrees clockwise to view".
STORED_TURNED = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def take_photo(artwork: Image.Image, props: Props, rng: Rng) -> bytes:
    """One JPEG of a product.

    Args:
        artwork: RGBA of `artwork.draw_product`.
        props: of the catalogue.
        rng: the photo's own generator: it decides everything.
    """
    backdrop, max_tilt = SCENES[rng.integers(len(SCENES))]
    pose = _pose(max_tilt, rng)
    scene = backdrop(props, pose, rng)
    _put_product(scene, artwork, pose, rng)
    if rng.random() < OCCLUDED_SHARE:
        _occlude(scene, props, pose, rng)
    if rng.random() < BLURRED_SHARE:
        scene = scene.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.0)))
    return encoded(lit(scene, rng), rng)


def _pose(max_tilt: float, rng: Rng) -> Pose:
    width, height = (int(side) for side in rng.integers(MIN_SIDE_PX, MAX_SIDE_PX + 1, 2))
    tall = min(width, height) * rng.uniform(0.42, 1.0)
    floor = (height + tall) / 2 + (height - tall) * rng.uniform(-0.2, 0.4)
    return Pose((width, height), tall, width * rng.uniform(0.34, 0.66), floor, rng.uniform(-max_tilt, max_tilt))


def _put_product(scene: Image.Image, artwork: Image.Image, pose: Pose, rng: Rng) -> None:
    """Pastes the product with mild perspective and the shadow it casts."""
    corners = pose.corners + rng.uniform(-0.05, 0.05, (4, 2)) * pose.tall
    # Filtering looks at neighbouring pixels only: the artwork is halved first where it is shown much smaller.
    source = artwork.reduce(2) if pose.tall < 0.6 * SIDE_PX else artwork
    coefficients = perspective(corners, source.width)
    layer = source.transform(pose.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
    shadow = layer.getchannel("A").reduce(4)
    if abs(pose.tilt) < LYING_TILT:
        (x, y), half = corners[2:].mean(axis=0) / 4, pose.tall / 16
        ImageDraw.Draw(shadow).ellipse((x - 1.3 * half, y - 0.4 * half, x + 1.3 * half, y + 0.4 * half), fill=255)
    shadow = shadow.filter(ImageFilter.GaussianBlur(pose.tall / 100)).point(lambda value: value * 0.45)
    offset = (int(pose.tall * rng.uniform(-0.05, 0.05)), int(pose.tall * rng.uniform(0, 0.03)))
    scene.paste((20, 18, 24), offset, shadow.resize(pose.size, Image.Resampling.BILINEAR))
    scene.paste(layer, (0, 0), layer)


def _occlude(scene: Image.Image, props: Props, pose: Pose, rng: Rng) -> None:
    """Puts one thing before the product: a hand at its side, a tag on it, or a ball at its foot."""
    choice = rng.choice(["hand", "tag", "ball"])
    middle, top = pose.x, pose.floor - pose.tall
    if choice == "hand":
        thing = scaled(props.hands[rng.integers(len(props.hands))], pose.tall * rng.uniform(0.4, 0.6))
        middle += pose.tall * rng.uniform(0, 0.16) + thing.width / 2
        top += pose.tall * rng.uniform(0.2, 0.55)
        if rng.random() < 0.5:
            thing, middle = thing.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 2 * pose.x - middle
    else:
        pool = props.tags if choice == "tag" else props.balls
        thing = scaled(pool[rng.integers(len(pool))], pose.tall * rng.uniform(0.22, 0.45))
        thing = thing.rotate(rng.uniform(-25, 25), Image.Resampling.BICUBIC, expand=True)
        middle += pose.tall * rng.uniform(-0.25, 0.25)
        top += pose.tall * (rng.uniform(0.3, 0.7) if choice == "tag" else 1.03) - thing.height * (choice == "ball")
    scene.paste(thing, (int(middle - thing.width / 2), int(top)), thing)


def perspective(corners_42: Grid, side: int) -> list[float]:
    """Pillow's eight coefficients that map `corners_42` in the photo back to the corners of a square of `side` pixels.

    Source: u = (ax + by + c) / (gx + hy + 1), v = (dx + ey + f) / (gx + hy + 1), solved for a..h.
    """
    rows, targets = [], []
    for (x, y), (u, v) in zip(corners_42, ((0, 0), (side, 0), (side, side), (0, side)), strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
        targets += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows), np.array(targets))]


def lit(scene: Image.Image, rng: Rng) -> Image.Image:
    """Brightness, colour cast, light from one side, vignette and sensor noise."""
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    slope = rng.normal(0, 0.12, 2)
    field = rng.uniform(0.7, 1.2) * (1 + slope[0] * x + slope[1] * y - rng.uniform(0, 0.3) * (x**2 + y**2) / 2)
    field_HW = np.asarray(Image.fromarray(field.astype(np.float32)).resize(scene.size, Image.Resampling.BILINEAR))
    cast = rng.normal(1, 0.09, 3).astype(np.float32)
    noise_HW = rng.standard_normal(field_HW.shape, dtype=np.float32) * np.float32(rng.uniform(0, 9))
    # Channel by channel: 0.45 ms a photo against 2.9 ms for broadcasting over a last axis of three.
    channels = [as_image(np.asarray(channel) * (field_HW * gain) + noise_HW) for channel, gain in zip(scene.split(), cast, strict=True)]
    return Image.merge("RGB", channels)


def encoded(scene: Image.Image, rng: Rng) -> bytes:
    """JPEG of varied quality, now and then stored turned with an EXIF tag."""
    exif = Image.Exif()
    if rng.random() < EXIF_SHARE:
        tag = int(rng.choice(list(STORED_TURNED)))
        exif[ORIENTATION_TAG] = tag
        scene = scene.transpose(STORED_TURNED[tag])
    jpeg = BytesIO()
    scene.save(jpeg, "JPEG", quality=int(rng.integers(50, 96)), exif=exif)
    return jpeg.getvalue()
