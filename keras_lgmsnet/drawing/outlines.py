"""Outlines of masks, drawn onto images."""

import cv2
import numpy as np

TRUTH_COLOR = "#00e5ff"
PREDICTION_COLOR = "#ffb300"


def outlined(
    image: np.ndarray, segmentation_mask: np.ndarray, prediction: np.ndarray | None = None
) -> np.ndarray:
    """Return an image, enlarged to some 512 pixels, with the outlines of its masks.

    Args:
        image: 8-bit RGB, shape `(height, width, 3)`.
        segmentation_mask: The true mask of 0 and 1, shape `(height, width, num_classes)`.
        prediction: The predicted mask, of the same shape.
    """
    height, width = image.shape[:2]
    scale = max(1, round(512 / max(height, width)))  # room for outlines finer than a pixel
    size = (width * scale, height * scale)
    canvas = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    # The wide outline first, so that both show where they coincide.
    draw_outlines(canvas, segmentation_mask, TRUTH_COLOR, 4)
    if prediction is not None:
        draw_outlines(canvas, prediction, PREDICTION_COLOR, 2)
    return canvas


def draw_outlines(image: np.ndarray, masks: np.ndarray, color: str, thickness: int) -> None:
    """Draw the outlines of masks onto an image, in place.

    Args:
        image: 8-bit RGB, contiguous, shape `(height, width, 3)`.
        masks: 0 and 1, shape `(..., num_classes)`; enlarged to the image's size.
        color: Such as `"#ffb300"`.
        thickness: In pixels of the image.
    """
    size = image.shape[1::-1]
    rgb = tuple(bytes.fromhex(color[1:]))
    for mask in np.moveaxis(masks, -1, 0):
        enlarged = cv2.resize(mask.astype("uint8"), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(enlarged, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, outlines, -1, rgb, thickness, cv2.LINE_AA)
