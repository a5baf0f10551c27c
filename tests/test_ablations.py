"""The ablations' recipe: every change that it lists builds a network of the size that it prints."""

import ast
import dataclasses
import math
import re
from pathlib import Path

import pytest

from keras_lgmsnet.models import LGMSNet2D
from keras_lgmsnet.recipe.loading import load_recipe, override

TEXT = ast.get_docstring(
    ast.parse((Path(__file__).parents[1] / "recipes" / "busi_ablations.py").read_text())
)
CHANGES = re.findall(r"^    --set (\S+) +([\d,]+) parameters$", TEXT, flags=re.MULTILINE)


def test_the_list_is_complete_and_each_changes_one_field_of_busi() -> None:
    assert load_recipe("busi_ablations") == load_recipe("busi")
    assert TEXT.count("--set") == len(CHANGES) == 10
    published = load_recipe("busi").model
    models = [override(load_recipe("busi_ablations"), [change]).model for change, _ in CHANGES]
    assert len(set(models)) == 9
    assert models.count(published) == 2  # once in each family
    for model in models:
        values, defaults = dataclasses.asdict(model), dataclasses.asdict(published)
        assert sum(values[name] != defaults[name] for name in values) <= 1


@pytest.mark.parametrize(("change", "parameters"), CHANGES)
def test_every_change_builds(change: str, parameters: str) -> None:
    recipe = override(load_recipe("busi_ablations"), [change])
    network = LGMSNet2D(input_shape=(32, 32, 3), **dataclasses.asdict(recipe.model))
    count = sum(math.prod(variable.shape) for variable in network.trainable_variables)
    assert f"{count:,}" == parameters
