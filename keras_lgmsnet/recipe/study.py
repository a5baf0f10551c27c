"""Studies: several recipes, each under a label, that are trained on the same splits."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.schema import AnyRecipe, Recipe

# Label → recipe; labels name the rows of tables.
Study: TypeAlias = dict[str, AnyRecipe]


def check_study(study: Any, where: str) -> Study:
    """Return a study, or raise `ValueError` with where it is from unless it is one."""
    if not isinstance(study, Mapping) or not study:
        raise ValueError(
            "A study is a dictionary such as `study = {'U-Net': Recipe(...)}`. "
            f"Received: {where}, where `study` is {study!r}"
        )
    for label, recipe in study.items():
        if not isinstance(label, str) or not isinstance(recipe, Recipe):
            raise ValueError(
                f"A study has a Recipe for each label, a text. Received: {where}, where "
                f"`study` has {label!r}: {recipe!r}"
            )
    kinds = {label: recipe.kind.name for label, recipe in study.items()}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{label}: {kind}" for label, kind in kinds.items())
        raise ValueError(
            f"The recipes of a study are all of images, or all of volumes. Received: {told}"
        )
    folder_names(study)
    return dict(study)


def folder_names(study: Iterable[str]) -> dict[str, str]:
    """Return for each label of a study the name of its folder.

    Raises:
        ValueError: If a label has no letter or digit, or two have the same name.
    """
    names = {label: re.sub(r"[^\w.+=]+", "-", label.lower()).strip("-.") for label in study}
    labels: dict[str, str] = {}
    for label, name in names.items():
        if not name:
            raise ValueError(f"A study's labels have letters or digits. Received: {label!r}")
        if name in labels:
            raise ValueError(
                f"The labels of a study name folders, so they must differ in more than case and "
                f"signs. Received: {labels[name]!r} and {label!r}, both of them {name}"
            )
        labels[name] = label
    return names


def study_of_networks(recipe: AnyRecipe, networks: Iterable[str]) -> Study:
    """Return the study of several networks, each as it was published, by one recipe.

    A network that does not take the recipe's sides gets the nearest that it takes. The recipe's own
    network keeps its arguments.

    Args:
        recipe: Of which only `model`, and perhaps the sides, are to differ.
        networks: Names from the registry.

    Raises:
        ValueError: If there is no such network for the recipe's kind, or one is named twice.

    Example:
    ```python
    study = study_of_networks(load_recipe("busi"), ["lgmsnet", "swin_unet"])
    study["Swin-Unet"].data.image_size  # (224, 224)
    ```
    """
    study: Study = {}
    for name in networks:
        network = registry.find(name, recipe.rank)
        if network.title in study:
            raise ValueError(f"Name each network of a study once. Received: {name} twice")
        arguments = recipe.model.arguments if name == recipe.model.network else {}
        model = dataclasses.replace(recipe.model, network=name, arguments=arguments)
        size_field = recipe.kind.size_field
        sides = network.sides(arguments).nearest_together(getattr(recipe.data, size_field))
        data = dataclasses.replace(recipe.data, **{size_field: sides})
        study[network.title] = dataclasses.replace(recipe, model=model, data=data)
    return check_study(study, "--networks")
