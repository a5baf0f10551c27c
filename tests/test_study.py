"""Studies: several recipes under labels."""

import dataclasses
from pathlib import Path

import pytest

from keras_lgmsnet.models import registry
from keras_lgmsnet.recipe.loading import load, load_recipe
from keras_lgmsnet.recipe.schema import Data, Model, Recipe, VolumeData
from keras_lgmsnet.recipe.study import check_study, folder_names, study_of_networks

pytestmark = pytest.mark.no_backend

RECIPE = Recipe(data=Data(source="busi"))


def test_labels_name_folders() -> None:
    labels = ["LGMSNet", "U-Net, narrow", "U-Net++", "réseau 2", "a/../b", "k=3,5"]
    assert list(folder_names(labels).values()) == [
        *("lgmsnet", "u-net-narrow", "u-net++", "réseau-2", "a-..-b", "k=3-5"),
    ]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["U-Net", "u net"], "Received: 'U-Net' and 'u net', both of them u-net"),
        (["../.."], r"letters or digits. Received: '../..'"),
        ([""], "letters or digits. Received: ''"),
    ],
)
def test_labels_that_name_none(labels: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        folder_names(labels)


@pytest.mark.parametrize(
    ("study", "sentence"),
    [
        ({}, r"such as `study = .* Received: mine.py, where `study` is {}"),
        ([RECIPE], r"such as `study = "),
        ({"a": 3}, r"`study` has 'a': 3"),
        ({1: RECIPE}, r"`study` has 1: Recipe"),
        (
            {"a": RECIPE, "b": Recipe(data=VolumeData(source="btcv"))},
            "all of images, or all of volumes. Received: a: images, b: volumes",
        ),
    ],
)
def test_what_is_no_study(study: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        check_study(study, "mine.py")


def test_networks_of_one_recipe() -> None:
    narrow = dataclasses.replace(RECIPE, model=Model(network="unet", filters=(4, 8, 16)))
    study = study_of_networks(narrow, ["unet", "swin_unet", "lgmsnet"])
    assert list(study) == ["U-Net", "Swin-Unet", "LGMSNet"]
    assert study["U-Net"] == narrow
    assert study["LGMSNet"] == RECIPE
    # Of windows of 7 patches of 4 pixels, merged three times.
    assert study["Swin-Unet"].data == dataclasses.replace(RECIPE.data, image_size=(224, 224))
    assert study["Swin-Unet"].model == Model(network="swin_unet", num_classes=1)


@pytest.mark.parametrize(
    ("networks", "sentence"),
    [
        (["unett"], "no network 'unett'; did you mean unet"),
        (["unet", "unet"], "Name each network of a study once. Received: unet twice"),
    ],
)
def test_networks_that_make_no_study(networks: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        study_of_networks(RECIPE, networks)


def test_a_file_defines_a_recipe_or_a_study(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    begin = "from keras_lgmsnet.recipe import load_recipe\nrecipe = load_recipe('busi')\n"
    path.write_text(f"{begin}study = {{'a': recipe}}\n")
    with pytest.raises(ValueError, match=r"`recipe` or `study`, not both. Received: .*mine.py"):
        load(path)
    path.write_text(f"{begin}study = {{'a': recipe}}\ndel recipe\n")
    assert load(path) == {"a": load_recipe("busi")}
    with pytest.raises(ValueError, match=r"mine.py is a study of 1 recipes, of which one"):
        load_recipe(path)
    path.write_text("study = 3\n")
    with pytest.raises(ValueError, match=r"Received: .*mine.py, where `study` is 3"):
        load(path)


def test_the_bundled_studies_are_the_papers_tables() -> None:
    study = load("study_busi")
    assert {recipe.model.network for recipe in study.values()} == set(registry.names(rank=2))
    smaller = [label for label, recipe in study.items() if recipe.data.image_size != (256, 256)]
    assert smaller == ["Swin-Unet"]
    organs = load("study_btcv")
    assert set(organs) == {registry.find(name, 3).title for name in registry.names(3)} - {"U-Net"}
    assert all(recipe.data == load_recipe("btcv").data for recipe in organs.values())
    blocks = load("study_blocks")
    assert list(blocks)[3:] == ["U-Net", "U-Net + LMS", "U-Net + GMS"]
    assert folder_names(blocks)["U-Net + GMS"] == "u-net-+-gms"
    assert dict(blocks["U-Net + GMS"].model.arguments) == {"block": "gms"}
