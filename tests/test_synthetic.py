import cv2
import numpy as np
import pytest

from keras_lgmsnet.data.synthetic import generate

pytestmark = pytest.mark.no_backend


@pytest.fixture(scope="module")
def examples():
    return generate(60, image_size=(64, 64), seed=3)


def test_format(examples) -> None:
    assert examples.ids[:2] == ["synthetic_00000", "synthetic_00001"]
    assert examples.dataset == "synthetic/3"
    assert examples.images.shape == (60, 64, 64, 3)
    assert examples.segmentation_masks.shape == (60, 64, 64, 1)
    assert examples.images.dtype == examples.segmentation_masks.dtype == np.uint8
    np.testing.assert_array_equal(examples.images[..., 0], examples.images[..., 2])
    assert set(np.unique(examples.segmentation_masks)) == {0, 1}


def test_an_image_depends_on_seed_and_index_alone(examples) -> None:
    fewer = generate(3, image_size=(64, 64), seed=3)
    np.testing.assert_array_equal(fewer.images, examples.images[:3])
    np.testing.assert_array_equal(fewer.segmentation_masks, examples.segmentation_masks[:3])
    other = generate(3, image_size=(64, 64), seed=4)
    assert np.all(np.any(other.images != fewer.images, axis=(1, 2, 3)))


def test_lesions_vary_in_number_size_and_contrast(examples) -> None:
    numbers = {cv2.connectedComponents(mask)[0] - 1 for mask in examples.segmentation_masks}
    assert {0, 1, 2} <= numbers
    areas = [mask.mean() for mask in examples.segmentation_masks if mask.any()]
    assert min(areas) < 0.03
    assert max(areas) > 0.1
    contrasts = [
        image[mask == 0].mean() - image[mask == 1].mean()
        for image, mask in zip(examples.images[..., :1], examples.segmentation_masks, strict=True)
        if mask.any()
    ]
    assert min(contrasts) > 0  # lesions are dark
    assert max(contrasts) > 2 * min(contrasts)


@pytest.mark.parametrize("image_size", [(32, 32), (32, 128), (128, 32)])
def test_small_and_oblong_images(image_size) -> None:
    examples = generate(100, image_size)
    assert examples.images.shape == (100, *image_size, 3)
    assert 0.8 < examples.segmentation_masks.any(axis=(1, 2, 3)).mean() < 1


@pytest.mark.parametrize(
    "arguments", [{"count": 0}, {"count": 1, "image_size": (64, 16)}, {"count": 1, "seed": -1}]
)
def test_arguments_out_of_range_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match="Received: count="):
        generate(**arguments)
