"""Generated ultrasound-like images, for trying everything out without a download."""

import cv2
import numpy as np

from keras_lgmsnet.data.images import Examples


def generate(count: int, image_size: tuple[int, int] = (128, 128), seed: int = 0) -> Examples:
    """Draw breast-ultrasound-like images with dark lesions of varied size, contrast and number.

    Layers of tissue (skin, fat, gland, muscle) carry random scatterers; lesions weaken the
    scatterers inside them and shadow or enhance what lies below. The scatterers are blurred by
    the pulse's width, and the echo's log-compressed amplitude is shown: that gives speckle its
    grain and its statistics. One image in ten has no lesion, one in five has two or three.

    Image `i` depends on `(seed, i)` and the size alone, whatever the count.

    Args:
        count: How many images, at least 1.
        image_size: Height and width in pixels, at least 32 each.
        seed: Seed of all randomness, an integer ≥ 0.

    Returns:
        Grey images as RGB, their lesion masks, and ids from `"synthetic_00000"` on.

    Raises:
        ValueError: If an argument is out of range.

    Example:
    ```python
    examples = generate(200, image_size=(128, 128), seed=41)
    ```
    """
    if count < 1 or min(image_size) < 32 or seed < 0:
        raise ValueError(
            "There must be at least 1 image of at least 32 × 32 pixels and a seed of at least 0. "
            f"Received: {count=}, {image_size=}, {seed=}"
        )
    drawn = [_draw(image_size, np.random.default_rng([seed, index])) for index in range(count)]
    images, segmentation_masks = map(np.stack, zip(*drawn, strict=True))
    return Examples(
        ids=[f"synthetic_{index:05d}" for index in range(count)],
        images=np.repeat(images[..., None], 3, axis=-1),
        segmentation_masks=segmentation_masks[..., None],
        dataset=f"synthetic/{seed}",
    )


# Lengths are in units of the image's height: `depth` runs from 0 to 1, `x` over the width.


def _draw(image_size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    height, width = image_size
    depth, x = np.mgrid[0.5:height, 0.5:width].astype("float32") / height
    echo_db, muscle = _tissue(x, depth, rng)
    lesions = np.zeros(image_size, dtype=bool)
    number = rng.choice(4, p=[0.1, 0.7, 0.15, 0.05])
    for _ in range(number):
        half_height = max(rng.uniform(0.05, 0.19) / np.sqrt(number), 2 / height)
        half_width = min(half_height * rng.uniform(0.9, 1.9), 0.4 * width / height)
        for _ in range(20):  # until there is room for it
            center_x = rng.uniform(half_width, width / height - half_width)
            center_depth = rng.uniform(0.12 + half_height, muscle.min() - 1.2 * half_height)
            reach = _reach(x - center_x, depth - center_depth, half_width, half_height, rng)
            if not np.any(lesions & (reach < 1.3)):
                break
        else:
            continue
        lesions |= reach < 1
        # Below, sound arrives weakened by the lesion (shadow) or less weakened (enhancement).
        below = np.exp(-(((x - center_x) / (0.8 * half_width)) ** 4)) * np.clip(
            (depth - center_depth) / half_height - 0.7, 0, 1
        )
        echo_db += rng.uniform(-15, 7) * below * np.exp((center_depth - depth) / 0.6)
        texture = _noise(x.shape, rng, scale=0.03, elongation=1.3)
        inside_db = np.percentile(echo_db[reach < 1], 25) - rng.uniform(5, 18) + 1.5 * texture
        weight = 0.5 - 0.5 * np.tanh((reach - 1) / rng.uniform(0.03, 0.15))
        echo_db = weight * inside_db + (1 - weight) * echo_db
    return _scan(echo_db, rng), lesions.astype(np.uint8)


def _tissue(
    x: np.ndarray, depth: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scatterers' strength in decibels and the depth at which the muscle begins."""
    skin = rng.uniform(0.04, 0.07) + 0.004 * _waves(x, rng)
    gland = skin + rng.uniform(0.08, 0.25) + 0.04 * _waves(x, rng)
    muscle = np.maximum(rng.uniform(0.72, 0.92) + 0.02 * _waves(x, rng), gland + 0.3)
    lobules = _noise(x.shape, rng, scale=0.045, elongation=1.8)
    septa = np.exp(-((_noise(x.shape, rng, scale=0.05, elongation=2.2) / 0.12) ** 2))
    strands = _noise(x.shape, rng, scale=0.012, elongation=4)
    fibres = _noise(x.shape, rng, scale=0.008, elongation=14)
    echo_db = np.select(
        [depth < skin, depth < gland, depth < muscle],
        [-5.0, -17 + 1.5 * lobules + 6 * septa, -10 + 2.5 * lobules + 2 * strands],
        -19 + 4 * fibres,
    )
    for border, strength, thickness in (
        (np.full_like(x, 0.01), 5, 0.008),
        (skin, 5, 0.006),
        (gland, rng.uniform(2, 6), 0.008),
        (muscle, 13, 0.009),
        (muscle + rng.uniform(0.08, 0.14), 10, 0.007),
    ):
        broken = np.clip(0.7 + 0.4 * _waves(x, rng), 0, 1)
        echo_db = echo_db + strength * broken * np.exp(-(((depth - border) / thickness) ** 2))
    return echo_db, muscle


def _reach(
    x: np.ndarray,
    depth: np.ndarray,
    half_width: float,
    half_height: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the distance from a lesion's centre: 0 there, 1 on its outline."""
    tilt = rng.uniform(-0.3, 0.3)
    along = (x * np.cos(tilt) + depth * np.sin(tilt)) / half_width
    across = (depth * np.cos(tilt) - x * np.sin(tilt)) / half_height
    angle = np.arctan2(across, along)
    irregularity = rng.choice([0.05, 0.12, 0.25])
    outline = 1 + sum(
        irregularity / k * rng.normal() * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
        for k in range(2, 9)
    )
    return np.hypot(along, across) / np.maximum(outline, 0.5)


def _scan(echo_db: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the 8-bit image of random scatterers of the given strength."""
    height = echo_db.shape[0]
    depth = (np.arange(height, dtype="float32")[:, None] + 0.5) / height
    amplitude = (10 ** (echo_db / 20)).astype("float32")
    axial = max(0.006 * height, 0.6)
    looks = 4  # averaged, as scanners do by steering the beam, to calm the speckle
    scatterers = amplitude * rng.standard_normal((looks, 2, *echo_db.shape), dtype="float32")
    near, far = _blur(scatterers, 1.2 * axial, axial), _blur(scatterers, 2.4 * axial, axial)
    echo = near * (1 - depth) + far * depth  # the beam widens with depth
    envelope = np.sqrt(np.mean(echo**2, axis=(0, 1)))
    attenuation_db = rng.uniform(0, 8) * depth
    shown_db = 20 * np.log10(envelope + 1e-3) - attenuation_db + rng.uniform(-3, 3)
    shown = 0.82 + shown_db / rng.uniform(36, 46)
    return np.clip(255 * shown, 0, 255).astype(np.uint8)


def _blur(scatterers: np.ndarray, lateral: float, axial: float) -> np.ndarray:
    fields = scatterers.reshape(-1, *scatterers.shape[-2:])
    blurred = [cv2.GaussianBlur(field, (0, 0), sigmaX=lateral, sigmaY=axial) for field in fields]
    # Blurring divides white noise's deviation by 2 √(π σ₁ σ₂): undone, strength stays strength.
    return np.reshape(blurred, scatterers.shape) * 2 * np.sqrt(np.pi * lateral * axial)


def _waves(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random curve over the width, about −1 to 1."""
    curve = np.zeros_like(x)
    for k in range(1, 4):
        curve += rng.normal() / k * np.cos(2 * np.pi * (k * x / 2 + rng.uniform()))
    return curve


def _noise(
    shape: tuple[int, int], rng: np.random.Generator, scale: float, elongation: float
) -> np.ndarray:
    """Return unit-variance noise with grains `scale` high and `elongation` times as wide."""
    sigma = scale * shape[0]
    noise = cv2.GaussianBlur(
        rng.standard_normal(shape, dtype="float32"), (0, 0), sigmaX=elongation * sigma, sigmaY=sigma
    )
    return noise / noise.std()
