"""The ablations' recipe: every change that it lists builds a network of the size that it prints."""

import ast
import math
import re
from pathlib import Path

import pytest

from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.loading import load_recipe, override

TEXT = ast.get_docstring(
    ast.parse((Path(__file__).parents[1] / "recipes" / "busi_ablations.py").read_text())
)
CHANGES = re.findall(r"^    --set (\S+) +([\d,]+) parameters$", TEXT, flags=re.MULTILINE)

pytestmark = pytest.mark.no_backend  # every backend counts a network alike, see `test_networks`


def test_the_list_is_complete_and_each_changes_one_field_of_busi() -> None:
    assert load_recipe("busi_ablations") == load_recipe("busi")
    assert TEXT.count("--set") == len(CHANGES) == 10
    models = [override(load_recipe("busi_ablations"), [change]).model for change, _ in CHANGES]
    assert {model.network for model in models} == {"lgmsnet"}
    network = registry.find("lgmsnet", rank=2)
    published, ablated = network.arguments(), []
    for model in models:
        arguments = network.complete(model.arguments)
        changed = [name for name in published if arguments[name] != published[name]]
        assert len(changed) <= 1
        ablated.append(tuple((name, arguments[name]) for name in changed))
    assert len(set(ablated)) == 9
    assert ablated.count(()) == 2  # as published, once in each family


@pytest.mark.parametrize(("change", "parameters"), CHANGES)
def test_every_change_builds(change: str, parameters: str) -> None:
    recipe = override(load_recipe("busi_ablations"), [change])
    network = registry.create(
        "lgmsnet", input_shape=(32, 32, 3), num_classes=1, **recipe.model.arguments
    )
    count = sum(math.prod(variable.shape) for variable in network.trainable_variables)
    assert f"{count:,}" == parameters
