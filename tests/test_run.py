"""Loading the network of a run."""

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lgmsnet import LGMSNet2D
from keras_lgmsnet.run import load_network


@pytest.fixture
def network() -> keras.Model:
    image = keras.Input((32, 32, 3))
    return keras.Model(image, keras.layers.Conv2D(1, 3, padding="same")(image))


def test_a_loaded_network_is_the_saved_one(tmp_path: Path) -> None:
    network = LGMSNet2D((32, 32, 3), dims=(4,) * 5, kernel_sizes=(3,), transformer_ratio=0)
    network.save(tmp_path / "model.keras")
    images = np.random.default_rng(0).random((1, 32, 32, 3), "float32")
    loaded = load_network(tmp_path)
    np.testing.assert_array_equal(loaded.predict_on_batch(images), network.predict_on_batch(images))


@pytest.mark.parametrize("damage", ["empty archive", "unknown layer", "bytes"])
def test_a_damaged_network_is_named(damage, network: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    network.save(path)
    if damage == "empty archive":
        zipfile.ZipFile(path, "w").close()
    elif damage == "unknown layer":
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data.replace(b'"Conv2D"', b'"Conv9D"'))
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model.keras is damaged: "):
        load_network(tmp_path)
