"""Images and volumes: what a kind is asked, and how it is found."""

import copy
import pickle

import pytest

from keras_lgmsnet.kinds import IMAGES, KINDS, VOLUMES, kind_named, kind_of_rank
from keras_lgmsnet.recipe.schema import Data, Recipe, VolumeData

pytestmark = pytest.mark.no_backend


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_found_by_name_and_by_rank(kind) -> None:
    assert kind_named(kind.name) is kind
    assert kind_of_rank(kind.rank) is kind


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"name .* 'images' or 'volumes'. Received: 'scans'"):
        kind_named("scans")
    with pytest.raises(ValueError, match=r"rank .* 2 or 3. Received: 4"):
        kind_of_rank(4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_the_same_object(kind) -> None:
    assert copy.deepcopy(kind) is kind
    assert pickle.loads(pickle.dumps(kind)) is kind


def test_a_kind_chooses_its_own() -> None:
    assert [kind.choose(images="a", volumes="b") for kind in KINDS] == ["a", "b"]


def test_a_recipe_has_the_kind_of_its_data() -> None:
    recipes = Recipe(data=Data(source="busi")), Recipe(data=VolumeData(source="btcv"))
    assert [recipe.kind for recipe in recipes] == [IMAGES, VOLUMES]
    for recipe in recipes:
        assert hasattr(recipe.data, recipe.kind.size_field)
        assert Recipe.from_dict(recipe.to_dict()) == recipe
