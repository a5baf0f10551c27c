"""How a network is scored on images, after training and in an evaluation alike."""

import zipfile
from pathlib import Path

import keras
import numpy as np
from tqdm.auto import tqdm

import keras_lgmsnet.models  # noqa: F401 - registers the networks, to be loaded
from keras_lgmsnet.data.images import ImageBatches
from keras_lgmsnet.metrics import image_scores
from keras_lgmsnet.run_directory import require_network

THRESHOLD = 0.5
CAUTION = "Optimistic: the best epoch was picked by its IoU on these same images, as in the paper."


def describe_convention(image_size: tuple[int, int]) -> str:
    """Return the sentence that tells how images of a size were scored."""
    height, width = image_size
    return (
        f"Each image is scored alone at {height} × {width} pixels, and the scores are averaged; "
        "0/0 counts 1 when the prediction equals the mask and 0 otherwise."
    )


def load_network(run_directory: Path) -> keras.Model:
    """Return a run's best network, in float32, on the backend in use.

    Raises:
        FileNotFoundError: If the run has none yet.
        ValueError: If the file is damaged.
    """
    path = require_network(run_directory)
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def score_images(
    network: keras.Model, batches: ImageBatches
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Predict every image and score it alone, at the published threshold of 0.5.

    Args:
        network: From preprocessed images to logits.
        batches: The images, unshuffled and not augmented.

    Returns:
        The scores of `keras_lgmsnet.metrics.image_scores`, float32 of shape `(images,)`, and the
        predicted masks, bool of shape `(images, height, width, num_classes)`.

    Example:
    ```python
    scores, predictions = score_images(network, ImageBatches(examples, batch_size=16))
    scores["iou"].mean()
    ```
    """
    scores, predictions = [], []
    for images, segmentation_masks in tqdm(
        (batches[index] for index in range(len(batches))),
        desc="Evaluating",
        total=len(batches),
        disable=None,  # shown on terminals only
    ):
        logits = network.predict_on_batch(images)
        scores.append(image_scores(segmentation_masks, logits, THRESHOLD))
        predictions.append(np.asarray(logits) > 0)  # a logit of 0 is the threshold's probability
    return (
        {name: np.concatenate([batch[name] for batch in scores]) for name in scores[0]},
        np.concatenate(predictions),
    )
