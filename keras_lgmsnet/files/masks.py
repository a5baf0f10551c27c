"""Masks of images: files whose bright or opaque pixels are the foreground, read as 0 and 1."""

import cv2
import numpy as np

from keras_lgmsnet.files.dicom import is_dicom
from keras_lgmsnet.files.images import FORMATS, decode_image, decoding
from keras_lgmsnet.files.lossy import find_lossy_black
from keras_lgmsnet.files.paths import AnyPath, read_bytes
from keras_lgmsnet.files.pixels import MAX_BYTES

_THRESHOLD = 127  # above which 8 bits are foreground
_WHITES = {np.dtype("uint8"): 255, np.dtype("uint16"): 65535}
_MEND = (
    ", or, if its outlines are blurred, set data.mask_threshold (lgms-evaluate --mask-threshold) "
    "to the value above which it is foreground, such as 127"
)


def read_mask(
    path: AnyPath,
    shape: tuple[int, int],
    *,
    two_valued: bool = False,
    threshold: int | None = None,
) -> tuple[np.ndarray, int]:
    """Read a mask file; the arguments and the result are those of `binary_mask`.

    Formats and palettes are those of `files.images.read_image`, without DICOM, whose
    values depend on a window.

    Raises:
        ValueError: If the file is unreadable or no mask of that shape.
    """
    content = read_bytes(path, MAX_BYTES)
    if is_dicom(content):
        raise ValueError(f"{path} must be {', '.join(FORMATS)}; convert it. Received: DICOM")
    with decoding(path):
        image = decode_image(content)
        lossy_black = find_lossy_black(content)
    return binary_mask(
        image.pixels,
        shape,
        str(path),
        alpha=image.alpha,
        lossy_black=lossy_black,
        two_valued=two_valued,
        threshold=threshold,
    )


def binary_mask(
    pixels: np.ndarray,
    shape: tuple[int, int],
    source: str,
    *,
    alpha: np.ndarray | None = None,
    lossy_black: int | None = None,
    two_valued: bool = False,
    threshold: int | None = None,
) -> tuple[np.ndarray, int]:
    """Turn a mask's pixels into 0 and 1.

    - Foreground is what is brighter than 127; in a mask of 0 and 1 only, what is 1. A mask of more
      than 8 bits holds 0 and 1, 0 and 255, or 0 and 65535, only.
    - What lossy compression blurred, as JPEG's does, has greys along outlines, and nowhere else: it
      is refused if it has a grey area, greys far from any white, or no white although it is not all
      black.
    - Where all that is not transparent has one colour, the mask is in the opacity: what is opaque
      is foreground. Where the colours might be a mask, too, they must tell the same one: where they
      differ in what is not transparent, are black and white, or are brighter in what is transparent
      than in what is not.

    Args:
        pixels: Grey, or three channels that are grey.
        shape: Height and width of the mask's image.
        source: What to call the mask in an error.
        alpha: The opacity, if any, from 0 to the largest value of its type.
        lossy_black: Where compression is lossy, what black is decoded to: 0 or a little more.
        two_valued: Whether to refuse a mask that holds more than two values, unless its compression
            is lossy: they might be further classes, which a threshold would silently merge.
        threshold: Of any mask that does not hold two values only: above which value it is
            foreground, from 0 to 254 of 255; of 16 bits, that is scaled. Merges knowingly what is
            refused otherwise.

    Returns:
        0 or 1, `uint8`, of the given shape; and how many pixels lay between black and white, so
        that `threshold` decided on them.

    Raises:
        ValueError: If the mask has another size, colours, or values or an opacity that leave open
            what is foreground.

    Example:
    ```python
    mask, _ = binary_mask(np.uint8([[0, 255]]), (1, 2), "mask.png")  # [[0, 1]]
    ```
    """
    # Lossy compression tints grey a little; elsewhere, a tint might tell classes.
    tint = 0 if two_valued and lossy_black is None else 8
    masks = []
    for name, plane in _telling_planes(pixels, alpha, source).items():
        if plane.ndim == 3 and np.ptp(plane, axis=-1).max(initial=0) <= tint:
            plane = plane.max(axis=-1)
        if plane.shape != shape:
            raise ValueError(
                f"{name} must be a grey image of its image's height and width, {shape}. "
                f"Received: {plane.shape}"
            )
        masks.append(_binary_plane(plane, name, lossy_black, two_valued, threshold))
    mask, num_between = masks[0]
    by_opacity, _ = masks[-1]
    if not np.array_equal(mask, by_opacity):
        raise ValueError(
            f"{source} must tell one mask, but its colours and its opacity tell two; save it "
            f"without transparency. Received: {mask.sum()} bright pixels, {by_opacity.sum()} opaque"
        )
    return mask, num_between


def _telling_planes(
    pixels: np.ndarray, alpha: np.ndarray | None, source: str
) -> dict[str, np.ndarray]:
    """Return what tells the mask, by its name in an error: colours, opacity, or both alike."""
    if alpha is None or alpha.min() == alpha.max() > 0:
        return {source: pixels}
    opacity = {f"{source}, by its opacity,": alpha}
    colours = pixels.reshape(alpha.size, -1)
    if (colours == colours[0]).all():
        return opacity
    shown = colours[alpha.ravel() > 0] if alpha.any() else colours
    # What is transparent mostly hides rubbish. But black before a transparent white may be a black
    # stroke, or what was left when white was erased from black.
    is_dark = shown.max() <= _WHITES.get(pixels.dtype, 1) / 2
    hides_brighter = is_dark and colours.max() > shown.max()
    is_grey = (colours == colours[:, :1]).all()
    hides_mask = is_grey and _are_two(_count_values(colours)[0])
    if (shown == shown[0]).all() and not hides_brighter and not hides_mask:
        return opacity
    return {source: pixels} | opacity


def _binary_plane(
    grey: np.ndarray,
    source: str,
    lossy_black: int | None,
    two_valued: bool,
    threshold: int | None,
) -> tuple[np.ndarray, int]:
    """Return what `binary_mask` does, of one channel."""
    values, counts = _count_values(grey)
    # Lossy compression spares no difference between 0 and 1.
    if _are_two(values) and (lossy_black is None or values[-1] != 1):
        return (grey > 0).astype(np.uint8), 0
    received = f"{', '.join(map(str, values[:5]))}{' …' if len(values) > 5 else ''}"
    if lossy_black is not None and values.tolist() == [lossy_black]:
        return np.zeros(grey.shape, np.uint8), 0
    if threshold is not None:
        white = _WHITES.get(grey.dtype)
        if white is None or values[-1] <= white * threshold // 255:
            raise ValueError(
                f"{source} must hold 0 and 255, or 0 and 1, only, or 8 or 16 bits of which some "
                f"exceed the mask_threshold, {threshold} of 255. Received: {received}"
            )
        num_between = int(np.count_nonzero((grey > 0) & (grey < white)))
        return (grey > white * threshold // 255).astype(np.uint8), num_between
    mend = _MEND if two_valued else ""
    if lossy_black is not None:
        if grey.dtype != np.uint8 or not _is_black_and_white(grey):
            most = values[np.argsort(-counts, kind="stable")][:4]
            raise ValueError(
                f"{source} must be black and white, with greys along outlines only, as lossy "
                f"compression makes them; save it as PNG of 0 and 255{mend}. "
                f"Received: mostly {', '.join(map(str, most))}"
            )
    elif two_valued or grey.dtype != np.uint8 or values[-1] <= _THRESHOLD:
        raise ValueError(
            f"{source} must hold 0 and 255, or 0 and 1, only; correct it{mend}. "
            f"Received: {received}"
        )
    return (grey > _THRESHOLD).astype(np.uint8), 0


def _are_two(values: np.ndarray) -> bool:
    """Return whether a mask's values tell background and foreground by themselves."""
    return len(values) <= 2 and any({*values} <= {0, end} for end in (1, 255, 65535))


def _count_values(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values that occur, sorted, and how often."""
    if grey.dtype != np.uint8:
        return np.unique(grey, return_counts=True)
    counts = np.bincount(grey.ravel(), minlength=256)  # which does not sort
    values = np.flatnonzero(counts)
    return values, counts[values]


def _is_black_and_white(grey: np.ndarray) -> bool:
    """Return whether greys are only where lossy compression makes them of black and white.

    In JPEGs from quality 20 on, masks of two values of any shape have no 3 × 3 pixels from 17 to
    238, and no greys farther from white than a block of the compression, 8 pixels, is wide.
    """
    is_grey = ((grey > 16) & (grey < 239)).astype(np.uint8)
    has_area = cv2.erode(is_grey, np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    is_white = (grey > 206).astype(np.uint8)
    near_white = cv2.dilate(is_white, np.ones((17, 17)))
    return bool(is_white.any()) and not has_area.any() and not (grey[near_white == 0] > 48).any()
