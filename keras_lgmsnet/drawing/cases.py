"""Which cases are shown: of those with something to outline, the best, the median and the worst."""

import numpy as np
import numpy.typing as npt


def has_outlines(segmentation_masks: npt.ArrayLike, predictions: npt.ArrayLike) -> np.ndarray:
    """Return which images have anything to outline, bool of shape `(images,)`.

    A picture without outlines shows nothing, however right it is.

    Args:
        segmentation_masks: True masks of 0 and 1, shape `(images, height, width, num_classes)`.
        predictions: Predicted masks, of the same shape.
    """
    outlined = np.asarray(segmentation_masks, bool) | np.asarray(predictions, bool)
    return outlined.any(axis=(1, 2, 3))


def best_median_worst(
    scores: np.ndarray, candidates: np.ndarray, limit: int = 3
) -> dict[str, list[int]]:
    """Choose cases to show, best first, without repeating one where possible.

    Args:
        scores: One a case.
        candidates: Indices of the cases to choose from.
        limit: How many to choose of each kind, at most.

    Returns:
        Indices for "best", "median" and "worst"; none where there is no candidate.
    """
    order = candidates[np.argsort(-scores[candidates], kind="stable")].tolist()
    count = max(1, min(limit, len(order) // 3))
    middle = (len(order) - count) // 2
    return {
        "best": order[:count],
        "median": order[middle : middle + count],
        "worst": order[-count:],
    }


def name_extremes(scores: np.ndarray, candidates: np.ndarray) -> dict[int, str]:
    """Choose the best, the median and the worst case, which of few cases may be one.

    Args:
        scores: One a case.
        candidates: Indices of the cases to choose from.

    Returns:
        What each chosen index is, such as "best, median".
    """
    names: dict[int, list[str]] = {}
    for name, indices in best_median_worst(scores, candidates, limit=1).items():
        for index in indices:
            names.setdefault(index, []).append(name)
    return {index: ", ".join(parts) for index, parts in names.items()}
