"""A recipe's images, from wherever they come."""

from pathlib import Path

import numpy as np
import pytest

from keras_lgmsnet.data import sources, synthetic
from keras_lgmsnet.data.images import Examples
from keras_lgmsnet.data.sources import describe_source, read_examples
from keras_lgmsnet.recipe.schema import Data, Model, Recipe

pytestmark = pytest.mark.no_backend

GENERATED = Recipe(data=Data(source="synthetic", num_images=3, image_size=(32, 64)))
READ = Recipe(
    data=Data(source="busi", image_size=(32, 64), interpolation="lanczos", allow_incomplete=True)
)


@pytest.fixture
def loaded(monkeypatch) -> list[tuple]:
    """What `load_examples`, which returns two empty images, was called with."""
    calls = []

    def load(builder, image_size, manual_dir, data_dir, **options) -> Examples:
        calls.append((builder, image_size, manual_dir, data_dir, options))
        shape = (2, *image_size)
        return Examples(["a", "b"], np.zeros((*shape, 3), "uint8"), np.zeros((*shape, 1), "uint8"))

    monkeypatch.setattr(sources, "load_examples", load)
    return calls


@pytest.mark.parametrize("source", [None, "synthetic"])
def test_generated_images(source, loaded) -> None:
    examples, expected = read_examples(GENERATED, source=source), synthetic.generate(3, (32, 64))
    assert examples.ids == expected.ids
    np.testing.assert_array_equal(examples.images, expected.images)
    assert not loaded


def test_a_dataset(loaded) -> None:
    assert read_examples(READ, Path("m"), "d").ids == ["a", "b"]
    options = {
        "interpolation": "lanczos",
        "allow_incomplete": True,
        "mask_threshold": None,
    }
    assert loaded == [("busi", (32, 64), Path("m"), "d", options)]


@pytest.mark.parametrize("recipe", [GENERATED, READ])
def test_another_dataset_at_the_recipes_size(recipe, loaded) -> None:
    read_examples(recipe, source="ph2")
    options = {
        "interpolation": recipe.data.interpolation,
        "allow_incomplete": False,  # the recipe allows it of its own dataset only
        "mask_threshold": None,
    }
    assert loaded == [("ph2", (32, 64), None, None, options)]


def test_another_dataset_may_be_incomplete_where_asked(loaded) -> None:
    read_examples(GENERATED, source="ph2", allow_incomplete=True)
    assert loaded[0][-1]["allow_incomplete"] is True


def test_a_folder_is_called_by_its_own_name(tmp_path, monkeypatch) -> None:
    assert describe_source("busi/all", tmp_path) == "busi/all"
    assert describe_source("image_folder", None) == "image_folder"
    assert describe_source("image_folder", "/data/ultrasound/") == "image_folder/ultrasound"
    monkeypatch.chdir(tmp_path)
    assert describe_source("image_folder", Path(".")) == f"image_folder/{tmp_path.name}"


def test_another_recipes_generated_images_are_unknown() -> None:
    with pytest.raises(ValueError, match=r"must be one of .*builder='synthetic'"):
        read_examples(READ, source="synthetic")


def test_other_classes_are_refused(loaded) -> None:
    recipe = Recipe(data=READ.data, model=Model(num_classes=2))
    with pytest.raises(ValueError, match=r"must be the 1 of ph2. Received: 2"):
        read_examples(recipe, source="ph2")
