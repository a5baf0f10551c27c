"""The local branch of Medical Transformer."""

import numpy as np
import pytest
from keras import ops

from keras_lgmsnet.models.medt import _LocalBranch
from tests.helpers.runs import scatter


@pytest.mark.no_backend  # `test_layers` asks every backend for the norms
def test_patches_at_once_train_as_one_after_the_other() -> None:
    arguments = {"filters": (4, 4, 4, 4, 4, 4), "depths": (1, 1, 1, 1), "num_heads": 2}
    draw = np.random.default_rng(0).standard_normal
    image, features = draw((2, 72, 68, 3), "float32"), draw((2, 72, 68, 4), "float32")
    at_once, one = _LocalBranch(**arguments, patches=2), _LocalBranch(**arguments, patches=1)
    at_once.build(image.shape, features.shape)
    one.build(image.shape, features.shape)
    scatter(at_once)
    one.set_weights(at_once.get_weights())
    before = one.get_weights()
    expected = features.copy()
    for row in (0, 32):
        for column in (0, 32):
            place = (slice(None), slice(row, row + 32), slice(column, column + 32))
            outputs = one(image[place], features[place], training=True)
            expected[place] = ops.convert_to_numpy(outputs)
    received = ops.convert_to_numpy(at_once(image, features, training=True))
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-3 * expected.std())
    assert np.abs(received[:, :64, :64] - features[:, :64, :64]).max() > 0.1
    names = [weight.path.rpartition("/")[-1] for weight in one.weights]
    moved = [not np.array_equal(*values) for values in zip(one.get_weights(), before, strict=True)]
    assert moved == [name.startswith("moving_") for name in names]
    for name, own, theirs in zip(names, at_once.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-3, atol=1e-3, err_msg=name)
