import keras
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from keras import ops

from keras_lgmsnet.losses import BCEDiceLoss, DiceCELoss
from keras_lgmsnet.metrics import (
    ClassDice,
    ImageAccuracy,
    ImageF1,
    ImageIoU,
    ImagePrecision,
    ImageScore,
    ImageSensitivity,
    ImageSpecificity,
    image_scores,
)

IMAGE_METRICS = {
    "iou": ImageIoU,
    "f1": ImageF1,
    "sensitivity": ImageSensitivity,
    "precision": ImagePrecision,
    "specificity": ImageSpecificity,
    "accuracy": ImageAccuracy,
}


def image(*lesion_pixels: int) -> np.ndarray:
    """Return a mask of shape (4, 4, 1) with these of its 16 pixels set."""
    mask = np.zeros(16, "uint8")
    mask[list(lesion_pixels)] = 1
    return mask.reshape(4, 4, 1)


FULL = image(*range(16))

# mask, prediction, and the scores in the order of IMAGE_METRICS.
CASES = {
    "both empty": (image(), image(), (1, 1, 1, 1, 1, 1)),
    "pixel invented": (image(), image(3), (0, 0, 0, 0, 15 / 16, 15 / 16)),
    "full image invented": (image(), FULL, (0, 0, 0, 0, 0, 0)),
    "one-pixel lesion missed": (image(5), image(), (0, 0, 0, 0, 1, 15 / 16)),
    "one-pixel lesion found": (image(5), image(5), (1, 1, 1, 1, 1, 1)),
    "one-pixel lesion misplaced": (image(5), image(6), (0, 0, 0, 0, 14 / 15, 14 / 16)),
    "full image found": (FULL, FULL, (1, 1, 1, 1, 1, 1)),
    "full image missed": (FULL, image(), (0, 0, 0, 0, 0, 0)),
    "full image but a pixel": (FULL, image(*range(15)), (15 / 16, 30 / 31, 15 / 16, 1, 0, 15 / 16)),
    # 2 true positives, 1 false positive, 2 false negatives, 11 true negatives
    "partial": (image(0, 1, 2, 3), image(2, 3, 4), (2 / 5, 4 / 7, 1 / 2, 2 / 3, 11 / 12, 13 / 16)),
}
MASKS = np.stack([mask for mask, _, _ in CASES.values()])
LOGITS = np.stack([2.0 * prediction - 1 for _, prediction, _ in CASES.values()])
SCORES = {
    name: np.array([scores[column] for _, _, scores in CASES.values()])
    for column, name in enumerate(IMAGE_METRICS)
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_scores_by_hand(name: str, case: str) -> None:
    i = list(CASES).index(case)
    metric = IMAGE_METRICS[name]()
    metric.update_state(MASKS[i : i + 1], LOGITS[i : i + 1])
    assert float(metric.result()) == pytest.approx(SCORES[name][i], abs=1e-7)


def test_image_scores_are_those_of_the_metrics() -> None:
    scores = image_scores(MASKS, LOGITS)
    assert list(scores) == list(IMAGE_METRICS)
    for name, values in scores.items():
        assert isinstance(values, np.ndarray)
        np.testing.assert_allclose(values, SCORES[name], atol=1e-7)


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_batches_of_any_size_give_the_mean_over_images(name: str) -> None:
    metric = IMAGE_METRICS[name]()
    assert metric.name == name
    for start, stop in ((0, 1), (1, 4), (4, 10)):
        metric.update_state(MASKS[start:stop], LOGITS[start:stop])
    assert float(metric.result()) == pytest.approx(SCORES[name].mean(), abs=1e-6)
    metric.reset_state()
    metric.update_state(MASKS[9:], LOGITS[9:])
    assert float(metric.result()) == pytest.approx(SCORES[name][9], abs=1e-6)


@pytest.mark.parametrize("shape", [(10,), (10, 1)])
def test_weights_act_on_images(shape: tuple[int, ...]) -> None:
    metric = ImageIoU()
    weights = np.linspace(0, 3, 10)
    metric.update_state(MASKS, LOGITS, sample_weight=weights.reshape(shape))
    assert float(metric.result()) == pytest.approx(
        np.average(SCORES["iou"], weights=weights), abs=1e-6
    )


def test_threshold_is_a_probability() -> None:
    mask = np.ones((1, 1, 4, 1))
    logits = np.log(np.array([0.69, 0.71, 0.9, 0.1]) / np.array([0.31, 0.29, 0.1, 0.9]))
    logits = logits.reshape(mask.shape)
    assert image_scores(mask, logits, threshold=0.7)["sensitivity"] == pytest.approx([0.5])
    assert image_scores(mask, logits, threshold=0.05)["sensitivity"] == pytest.approx([1.0])
    # A probability of exactly one half is background.
    assert image_scores(mask, np.zeros_like(mask))["sensitivity"] == pytest.approx([0.0])


def test_pixels_of_all_classes_and_of_volumes_are_counted_together() -> None:
    masks, logits = MASKS[6:], LOGITS[6:]
    for shape in ((1, 4, 4, 4, 1), (1, 4, 4, 4)):
        scores = image_scores(masks.reshape(shape), logits.reshape(shape))
        # 16 + 15 + 2 pixels found, 16 + 1 + 2 missed, 1 invented
        assert scores["iou"] == pytest.approx([33 / 53])


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_float16_logits_of_256_by_256(name: str) -> None:
    metric = IMAGE_METRICS[name]()
    mask = np.ones((1, 256, 256, 1), "float16")
    metric.update_state(mask, np.full(mask.shape, 60000, "float16"))
    assert float(metric.result()) == 1


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.booleans(), min_size=16, max_size=16),
    st.lists(st.booleans(), min_size=16, max_size=16),
    st.integers(0, 15),
)
def test_a_further_error_never_raises_a_score(
    mask: list[bool], prediction: list[bool], pixel: int
) -> None:
    prediction[pixel] = mask[pixel]
    worse = prediction.copy()
    worse[pixel] = not worse[pixel]
    masks = np.reshape([mask, mask], (2, 4, 4, 1))
    logits = np.where(np.reshape([prediction, worse], masks.shape), 1.0, -1.0)
    for name, (before, after) in image_scores(masks, logits).items():
        assert after <= before, name


@pytest.mark.parametrize("threshold", [0, 1, -0.5, float("nan")])
def test_thresholds_out_of_range_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=f"Received: threshold={threshold}"):
        ImageIoU(threshold)
    with pytest.raises(ValueError, match=f"Received: threshold={threshold}"):
        image_scores(MASKS, LOGITS, threshold)


def test_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"segmentation_mask\.shape=\(10, 4, 4\)"):
        ImageIoU().update_state(MASKS[..., 0], LOGITS)


# A background and three classes on four pixels; class 3 is never labelled nor predicted.
LABELS = np.array([[[0, 0, 1, 1]], [[0, 0, 0, 2]]])
PREDICTED = np.array([[[0, 1, 1, 0]], [[0, 1, 0, 0]]])
# Image 0: background 2·1/(2+2), class 1 2·1/(2+2), class 2 in neither.
# Image 1: background 2·2/(3+3), class 1 predicted but absent, class 2 missed.
PER_CLASS = [(1 / 2 + 2 / 3) / 2, (1 / 2 + 0) / 2, 0, np.nan]
CLASS_LOGITS = np.eye(4)[PREDICTED]


def test_class_dice_by_hand() -> None:
    metric = ClassDice(4)
    metric.update_state(LABELS, CLASS_LOGITS)
    np.testing.assert_allclose(ops.convert_to_numpy(metric.per_class()), PER_CLASS, rtol=1e-6)
    assert float(metric.result()) == pytest.approx((1 / 4 + 0) / 2)


def test_class_dice_with_background() -> None:
    metric = ClassDice(4, include_background=True)
    metric.update_state(LABELS, CLASS_LOGITS)
    assert float(metric.result()) == pytest.approx((7 / 12 + 1 / 4 + 0) / 3)


def test_class_dice_streams_and_resets() -> None:
    metric = ClassDice(4)
    assert np.isnan(float(metric.result()))
    for i in range(2):
        metric.update_state(LABELS[i : i + 1], CLASS_LOGITS[i : i + 1])
    np.testing.assert_allclose(ops.convert_to_numpy(metric.per_class()), PER_CLASS, rtol=1e-6)
    metric.reset_state()
    metric.update_state(LABELS[:1], CLASS_LOGITS[:1])
    assert float(metric.result()) == pytest.approx(1 / 2)


@pytest.mark.parametrize("form", [LABELS[..., None], np.eye(4, dtype="uint8")[LABELS]])
def test_class_dice_takes_numbers_with_an_axis_and_one_hot(form: np.ndarray) -> None:
    metric = ClassDice(4)
    metric.update_state(form, CLASS_LOGITS)
    np.testing.assert_allclose(ops.convert_to_numpy(metric.per_class()), PER_CLASS, rtol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_class_dice_weights_act_on_images(shape: tuple[int, ...]) -> None:
    metric = ClassDice(4)
    metric.update_state(LABELS, CLASS_LOGITS, sample_weight=np.reshape([3.0, 1.0], shape))
    assert ops.convert_to_numpy(metric.per_class())[1] == pytest.approx(3 / 4 * 1 / 2)
    metric.reset_state()
    metric.update_state(LABELS, CLASS_LOGITS, sample_weight=np.reshape([1.0, 0.0], shape))
    np.testing.assert_allclose(
        ops.convert_to_numpy(metric.per_class()), [1 / 2, 1 / 2, np.nan, np.nan]
    )


def test_class_dice_counts_the_voxels_of_a_volume_exactly() -> None:
    labels, predicted = np.random.default_rng(0).integers(0, 3, (2, 1, 96, 96, 96))
    metric = ClassDice(3)
    metric.update_state(labels, np.eye(3, dtype="float16")[predicted])
    expected = [
        2 * np.sum((labels == c) & (predicted == c)) / np.sum((labels == c) + (predicted == c) * 1)
        for c in range(3)
    ]
    np.testing.assert_allclose(ops.convert_to_numpy(metric.per_class()), expected, rtol=2e-7)


def test_class_dice_refuses_wrong_classes() -> None:
    with pytest.raises(ValueError, match="Received: num_classes=1"):
        ClassDice(1)
    with pytest.raises(ValueError, match=r"5 classes.*logits\.shape=\(2, 1, 4, 4\)"):
        ClassDice(5).update_state(LABELS, CLASS_LOGITS)
    with pytest.raises(ValueError, match=r"labels\.shape=\(2, 4\)"):
        ClassDice(4).update_state(LABELS[:, 0], CLASS_LOGITS)


@pytest.mark.parametrize(
    "metric",
    [
        *(metric(threshold=0.25, name="renamed") for metric in IMAGE_METRICS.values()),
        ClassDice(7, include_background=True, name="renamed"),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_serialization_keeps_the_arguments(metric: ImageScore | ClassDice) -> None:
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert type(restored) is type(metric)
    assert restored.get_config() == metric.get_config()
    assert restored.name == "renamed"


def test_a_compiled_model_reports_them() -> None:
    model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Identity()])
    model.compile(
        loss=BCEDiceLoss(),
        metrics=[metric() for metric in IMAGE_METRICS.values()],
        weighted_metrics=[ImageIoU(name="weighted_iou")],
    )
    weights = np.linspace(0, 3, 10)
    reported = model.evaluate(
        LOGITS, MASKS, sample_weight=weights, batch_size=4, verbose=0, return_dict=True
    )
    for name, scores in SCORES.items():
        assert reported[name] == pytest.approx(scores.mean(), abs=1e-6)
    assert reported["weighted_iou"] == pytest.approx(
        np.average(SCORES["iou"], weights=weights), abs=1e-6
    )


def test_a_compiled_model_reports_class_dice() -> None:
    model = keras.Sequential([keras.Input((1, 4, 4)), keras.layers.Identity()])
    model.compile(loss=DiceCELoss(), metrics=[ClassDice(4)])
    reported = model.evaluate(CLASS_LOGITS, LABELS, batch_size=1, verbose=0, return_dict=True)
    assert reported["class_dice"] == pytest.approx(1 / 8)


def test_labels_that_miss_integers_are_rounded() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (2, 4, 4, 4))
    dice = ClassDice(3)
    dice.update_state(labels * np.float32(0.99999994), 20 * np.eye(3)[labels])
    assert float(dice.result()) == 1
    for factor in (np.float32(0.99999994), 255):  # all metrics of images count above one half
        scores = image_scores(MASKS * factor, LOGITS)
        np.testing.assert_allclose(scores["iou"], SCORES["iou"], atol=1e-7)


def test_labels_out_of_range_leave_no_dice() -> None:
    labels, logits = np.array([[0, 1], [0, 255]]), np.zeros((2, 2, 3))
    with pytest.raises(ValueError, match=r"Masks must hold values from 0 to 2; .* 0 to 255"):
        ClassDice(3).update_state(labels, logits)
    dice = ClassDice(3)
    dice.update_state(ops.convert_to_tensor(labels), logits)
    assert np.isnan(float(dice.result()))
