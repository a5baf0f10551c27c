"""Recipes: validation, files, overrides, JSON."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from keras_lgmsnet.recipe.loading import load_recipe, override
from keras_lgmsnet.recipe.schema import Data, Model, Recipe, Training, VolumeData, VolumeTraining

pytestmark = pytest.mark.no_backend

RECIPE = Recipe(data=Data(source="isic2018_task1"))
VOLUMES = Recipe(data=VolumeData(source="btcv"))


def test_defaults_are_the_published_settings() -> None:
    assert RECIPE.to_dict() == {
        "data": {
            "source": "isic2018_task1",
            "image_size": (256, 256),
            "interpolation": "linear",
            "validation_fraction": 0.3,
            "validation_ids": (),
            "test_fraction": 0.0,
            "split_seed": 41,
            "num_folds": None,
            "fold": 0,
            "preprocessing": "imagenet",
            "augmentation": "rotate_flip",
            "num_images": None,
            "mask_threshold": None,
            "allow_incomplete": False,
        },
        "model": {"network": "lgmsnet", "num_classes": 1},
        "training": {
            "epochs": 500,
            "batch_size": 16,
            "learning_rate": 0.02,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "seed": 0,
            "precision": "float32",
            "num_devices": 1,
        },
    }


def test_defaults_of_volumes_are_the_published_settings() -> None:
    assert VOLUMES.to_dict() == {
        "data": {
            "source": "btcv",
            "spacing": None,
            "normalization": None,
            "intensity_window": None,
            "crop_foreground": True,
            "patch_size": (96, 96, 96),
            "patches_per_volume": 4,
            "positive_fraction": 0.5,
            "augmentation": "flip_rotate_intensity",
            "overlap": 0.5,
            "validation_fraction": 0.3,
            "validation_ids": (),
            "test_fraction": 0.0,
            "split_seed": 41,
            "num_folds": None,
            "fold": 0,
            "allow_incomplete": False,
        },
        "model": RECIPE.to_dict()["model"] | {"num_classes": None},
        "training": {
            "epochs": 5000,
            "batch_size": 1,
            "learning_rate": 1e-3,
            "warmup_epochs": 50,
            "weight_decay": 1e-5,
            "validate_every": 100,
            "seed": 0,
            "precision": "float32",
            "num_devices": 1,
        },
    }


def test_data_decide_the_rank() -> None:
    assert (RECIPE.kind.rank, VOLUMES.kind.rank) == (2, 3)
    assert (RECIPE.training, VOLUMES.training) == (Training(), VolumeTraining())
    assert (RECIPE.model.num_classes, VOLUMES.model.num_classes) == (1, None)


def test_isic_recipe_is_the_published_one() -> None:
    assert load_recipe("isic") == RECIPE


def test_recipes_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPE.training.epochs = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Data(source=""), r"data.source must not be empty. Received: ''"),
        (lambda: Data(source=3), r"data.source must be a text. Received: 3"),
        (lambda: Data(source="x", image_size=(256,)), r"must be two integers. Received: \(256,\)"),
        (lambda: Data(source="x", image_size=(0, 32)), r"must be above 0 pixels.*\(0, 32\)"),
        (lambda: Data(source="x", validation_fraction=1), r"must be between 0 and 1.*: 1$"),
        (lambda: Data(source="x", split_seed=-1), r"split_seed must be from 0 to 4294967295"),
        (lambda: Data(source="x", split_seed=2**32), r"data.split_seed must be from 0"),
        (lambda: Data(source="x", preprocessing="no"), r"'imagenet' or 'published'. .*'no'"),
        (lambda: Data(source="x", augmentation="no"), r"'kvasir' or a map.* or None. .*: 'no'"),
        (
            lambda: Data(source="x", augmentation={"A": 3}),
            r"a mapping such as .*Received: {'A': 3}",
        ),
        (lambda: Data(source="x", augmentation={"A": {"b": len}}), r"a mapping such as"),
        (lambda: Data(source="x", augmentation={"A": {"b": float("nan")}}), r"a mapping such as"),
        (lambda: Data(source="x", test_fraction=1), r"data.test_fraction must be in \[0, 1\)"),
        (lambda: Data(source="x", num_folds=1), r"data.num_folds must be at least 2"),
        (lambda: Data(source="x", num_folds=5, fold=5), r"data.fold must lie below"),
        (lambda: Data(source="x", fold=1), r"data.fold must lie below"),
        (lambda: Data(source="synthetic"), r"data.num_images must be at least 2"),
        (lambda: Data(source="synthetic", num_images=1), r"must be at least 2. Received: 1"),
        (lambda: Data(source="x", num_images=5), r"data.num_images must be None.*Received: 5"),
        (lambda: Model(network="unett"), r"no network 'unett'; did you mean unet or unext or"),
        (lambda: Model(network="zzz"), r"no network 'zzz'; known are .*lgmsnet, .*unet"),
        (lambda: Model(network=3), r"model.network must be a text. Received: 3"),
        (lambda: Model(num_classes=0), r"model.num_classes must be at least 1. Received: 0"),
        (lambda: Model(num_classes=1.5), r"model.num_classes must be an integer or None"),
        (lambda: Model(dims={4}), r"model.dims must be a number, a text, .*Received: .4."),
        (lambda: Model(rate=float("nan")), r"model.rate must be a number, .*Received: nan"),
        (lambda: Model(arguments=[3]), r"model.arguments must be a mapping .*Received: \[3\]"),
        (lambda: Model(arguments={"a": 1}, a=2), r"model.a must be given once"),
        (lambda: Model(dtype="float16"), r"model.dtype must be left out: training.precision"),
        (lambda: Model(input_shape=(32, 32, 3)), r"model.input_shape must be left out: data."),
        (lambda: Training(epochs=0), r"training.epochs must be at least 1. Received: 0"),
        (lambda: Training(epochs=True), r"training.epochs must be an integer. Received: True"),
        (lambda: Training(epochs=2.0), r"training.epochs must be an integer. Received: 2.0"),
        (lambda: Training(batch_size=0), r"training.batch_size must be at least 1"),
        (lambda: Training(learning_rate=0), r"training.learning_rate must be above 0"),
        (lambda: Training(learning_rate=float("nan")), r"learning_rate must be above 0.*nan"),
        (lambda: Training(momentum=1.0), r"training.momentum must be in \[0, 1\)"),
        (lambda: Training(weight_decay=-1e-4), r"weight_decay must be at least 0"),
        (lambda: Training(seed=-1), r"training.seed must be from 0 to 4294967295"),
        (lambda: Training(precision="float64"), r"'mixed_bfloat16'. Received: 'float64'"),
        (lambda: Recipe(data={"source": "x"}), r"data must be a Data or a VolumeData. Received: "),
        (
            lambda: Recipe(data=RECIPE.data, training=VolumeTraining()),
            r"training must be a Training where data is a Data. Received: VolumeTraining",
        ),
        (
            lambda: Recipe(data=VOLUMES.data, training=Training()),
            r"training must be a VolumeTraining where data is a VolumeData. Received: Training",
        ),
        (
            lambda: Recipe(data=VOLUMES.data, model=Model(num_classes=1)),
            r"model.num_classes must be None or at least 2 for volumes, .*Received: 1",
        ),
        (lambda: Data(source="x", validation_ids=[1]), r"must be texts such as .*Received: \[1\]"),
        (
            lambda: VolumeData(source="x", validation_ids=["a"], num_folds=5),
            r"data.num_folds must be None where data.validation_ids names .*Received: 5",
        ),
        (lambda: VolumeData(source="x", fold=1), r"data.fold must lie below data.num_folds"),
        (lambda: VolumeData(source="x", spacing=(1, 2)), r"spacing must be three numbers or None"),
        (
            lambda: VolumeData(source="x", spacing=(1, 1, 0)),
            r"data.spacing must be above 0 mm. Received: \(1, 1, 0\)",
        ),
        (
            lambda: VolumeData(source="x", spacing=(1, 1, float("inf"))),
            r"data.spacing must be above 0 mm.*inf",
        ),
        (
            lambda: VolumeData(source="x", intensity_window=(250, -175)),
            r"data.intensity_window must have a low end below .*\(250.0, -175.0\)",
        ),
        (
            lambda: VolumeData(source="x", intensity_window=(float("nan"), 0)),
            r"intensity_window must have a low end below its high end.*nan",
        ),
        (
            lambda: VolumeData(source="x", intensity_window=(0, 1), normalization="z_score"),
            r"data.intensity_window must be None where data.normalization is 'z_score'",
        ),
        (
            lambda: Recipe(data=VolumeData(source="x", patch_size=(96, 96, 40))),
            r"data.patch_size must have sides divisible by 32 for this LGMSNet: pad or resize to "
            r"\(96, 96, 32\), the nearest. Received: \(96, 96, 40\)",
        ),
        (
            lambda: Recipe(data=Data(source="x", image_size=(250, 8))),
            r"data.image_size must .* 32 .* resize to \(256, 32\), .*Received: \(250, 8\)",
        ),
        (
            lambda: Recipe(
                data=Data(source="x", image_size=(72, 66)),
                model=Model(network="unet", filters=(4, 8, 16)),
            ),
            r"data.image_size must have sides divisible by 4 for this U-Net: .*\(72, 68\)",
        ),
        (lambda: VolumeData(source="x", patch_size=(0, 32, 32)), r"must be above 0 voxels"),
        (lambda: VolumeData(source="x", patch_size=(32, 32)), r"must be three integers"),
        (lambda: VolumeData(source="x", patches_per_volume=0), r"_volume must be at least 1"),
        (lambda: VolumeData(source="x", positive_fraction=1.1), r"must be from 0 to 1.*1.1"),
        (lambda: VolumeData(source="x", overlap=1), r"data.overlap must be in \[0, 1\).*: 1$"),
        (
            lambda: VolumeTraining(epochs=50),
            r"training.warmup_epochs must be below training.epochs, 50: set both. Received: 50",
        ),
        (lambda: VolumeTraining(validate_every=0), r"training.validate_every must be at least 1"),
        (lambda: VolumeTraining(num_devices=2), r"num_devices must divide training.batch_size, 1"),
    ],
)
def test_bad_values_are_refused(build, message) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_numbers_are_kept_as_annotated() -> None:
    assert type(Training(learning_rate=1).learning_rate) is float
    assert Model(dims=[8, [8, 8.0]]).arguments == {"dims": (8, (8, 8.0))}
    assert Model(arguments={"block": None}, width=3).arguments == {"block": None, "width": 3}
    spacing = VolumeData(source="x", spacing=[1, 1.5, 2]).spacing
    assert [type(side) for side in spacing] == [float] * 3


@pytest.mark.parametrize(
    ("assignment", "section", "expected"),
    [
        ("training.epochs=5", "training", {"epochs": 5}),
        (" training.epochs = 5 ", "training", {"epochs": 5}),
        ("training.learning_rate=1e-3", "training", {"learning_rate": 1e-3}),
        ("training.learning_rate=1", "training", {"learning_rate": 1.0}),
        ("training.precision=mixed_float16", "training", {"precision": "mixed_float16"}),
        ("data.image_size=128,96", "data", {"image_size": (128, 96)}),
        ("data.image_size=(128, 96)", "data", {"image_size": (128, 96)}),
        ("data.source=123", "data", {"source": "123"}),
        ("data.source=a=b", "data", {"source": "a=b"}),
        ("data.augmentation=none", "data", {"augmentation": None}),
        ("data.augmentation=kvasir", "data", {"augmentation": "kvasir"}),
        (
            "data.augmentation={'RandomHue': {'factor': (0, 0.1)}, 'Grayscale': {}}",
            "data",
            {"augmentation": {"RandomHue": {"factor": [0, 0.1]}, "Grayscale": {}}},
        ),
        ("data.validation_ids=0035, 0036", "data", {"validation_ids": ("0035", "0036")}),
        ("data.validation_ids=case", "data", {"validation_ids": ("case",)}),
        ("data.validation_ids=", "data", {"validation_ids": ()}),
        ("model.network=unet", "model", {"network": "unet"}),
        ("data.spacing=1,1,2.5", "data", {"spacing": (1.0, 1.0, 2.5)}),
        ("data.spacing=none", "data", {"spacing": None}),
        ("data.intensity_window=-175,250", "data", {"intensity_window": (-175.0, 250.0)}),
        ("data.normalization=z_score", "data", {"normalization": "z_score"}),
        ("data.patch_size=64,64,32", "data", {"patch_size": (64, 64, 32)}),
        ("data.crop_foreground=false", "data", {"crop_foreground": False}),
        ("training.validate_every=5", "training", {"validate_every": 5}),
        ("model.num_classes=4", "model", {"num_classes": 4}),
    ],
)
def test_override(assignment, section, expected) -> None:
    (name,) = expected
    recipe = next(recipe for recipe in (RECIPE, VOLUMES) if name in recipe.to_dict()[section])
    changed = override(recipe, [assignment])
    expected_section = dataclasses.replace(getattr(recipe, section), **expected)
    assert changed == dataclasses.replace(recipe, **{section: expected_section})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3,3", (3, 3)),
        ("3,", (3,)),
        ("0.5", 0.5),
        ("gelu", "gelu"),
        ("none", None),
        ("true", True),
        ("lms, none", ("lms", None)),
        ("(lms, none)", "(lms, none)"),
        ("__import__('os')", "__import__('os')"),
    ],
)
def test_overrides_of_the_networks_arguments(text, expected) -> None:
    changed = override(RECIPE, [f"model.anything={text}"])
    assert changed.model == Model(num_classes=1, anything=expected)
    assert changed.to_dict()["model"]["anything"] == expected


def test_arguments_of_one_network_do_not_outlast_another() -> None:
    recipe = Recipe(data=RECIPE.data, model=Model(kernel_sizes=(3, 3), dims=(8,) * 5))
    changed = override(recipe, ["model.filters=8,16", "model.network=unet"])
    assert changed.model == Model(network="unet", num_classes=1, filters=(8, 16))
    assert override(recipe, ["model.dims=4,4"]).model.arguments["kernel_sizes"] == (3, 3)


def test_overrides_are_checked_together() -> None:
    changed = override(RECIPE, ["data.source=synthetic", "data.num_images=8"])
    assert changed.data.num_images == 8
    with pytest.raises(ValueError, match=r"data.num_images must be at least 2"):
        override(RECIPE, ["data.source=synthetic"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epoch=5", r"Unknown recipe key 'training.epoch'; .*training.epochs"),
        ("epochs=5", r"Unknown recipe key 'epochs'; did you mean training.epochs\?"),
        ("zzz=1", r"Unknown recipe key 'zzz'; known are data.source, .*training.precision"),
        ("training=1", r"Unknown recipe key 'training'"),
        ("training.epochs", r"must read KEY=VALUE.*Received: 'training.epochs'"),
        ("training.epochs=many", r"training.epochs must be an integer. Received: 'many'"),
        ("training.epochs=1.5", r"training.epochs must be an integer. Received: 1.5"),
        ("training.epochs=true", r"training.epochs must be an integer. Received: True"),
        ("training.epochs=none", r"training.epochs must be an integer. Received: 'none'"),
        ("training.epochs=__import__('os')", r"training.epochs must be an integer"),
        ("training.precision=float8", r"training.precision must be 'float32' or"),
        ("data.image_size=128", r"data.image_size must be two integers. Received: 128"),
        ("data.augmentation={'A'}", r"data.augmentation must be .*a mapping such as .*: {'A'}"),
        ("data.augmentation={'A': ", r"data.augmentation must be .*a mapping .*: \"{'A':\""),
        ("model.arguments=3", r"model.arguments must be a mapping .*Received: 3"),
        ("model.a b=3", r"Unknown recipe key 'model.a b'"),
    ],
)
def test_bad_overrides_are_refused(assignment, message) -> None:
    with pytest.raises(ValueError, match=message):
        override(RECIPE, [assignment])


@pytest.mark.parametrize(
    ("recipe", "assignment", "message"),
    [
        (VOLUMES, "data.patchsize=1", r"'data.patchsize'; did you mean data.patch_size"),
        (VOLUMES, "validate=5", r"'validate'; did you mean .*training.validate_every"),
        (VOLUMES, "data.image_size=96,96", r"Unknown recipe key 'data.image_size'"),
        (VOLUMES, "training.momentum=0", r"Unknown recipe key 'training.momentum'"),
        (RECIPE, "data.patch_size=96,96,96", r"Unknown recipe key 'data.patch_size'"),
        (
            VOLUMES,
            "training.epochs=2",
            r"warmup_epochs must be below training.epochs, 2: set both. Received: 50",
        ),
        (VOLUMES, "data.spacing=1,1", r"data.spacing must be three numbers or None. .*\(1, 1\)"),
    ],
)
def test_overrides_know_the_keys_of_their_rank(recipe, assignment, message) -> None:
    with pytest.raises(ValueError, match=message):
        override(recipe, [assignment])


@settings(deadline=None, max_examples=50)
@given(
    image_size=st.tuples(*[st.integers(1, 16).map(lambda side: 32 * side)] * 2),
    fraction=st.floats(0, 1, exclude_min=True, exclude_max=True),
    rate=st.floats(1e-9, 1e9),
    augmentation=st.sampled_from(["rotate_flip", None, {"RandomHue": {"factor": (0, 0.1)}}]),
    dims=st.lists(st.integers(1, 512), min_size=1).map(tuple),
)
def test_json_and_overrides_round_trip(image_size, fraction, rate, augmentation, dims) -> None:
    recipe = Recipe(
        data=Data(
            source="x",
            image_size=image_size,
            validation_fraction=fraction,
            augmentation=augmentation,
        ),
        model=Model(dims=dims),
        training=Training(learning_rate=rate),
    )
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assignments = [
        f"{section}.{name}={value}"
        for section, fields in recipe.to_dict().items()
        for name, value in fields.items()
    ]
    assert override(RECIPE, assignments) == recipe


@settings(deadline=None, max_examples=50)
@given(
    spacing=st.none() | st.tuples(*[st.floats(0.1, 10)] * 3),
    window=st.none() | st.tuples(st.floats(-1e4, 0), st.floats(1, 1e4)),
    sides=st.tuples(*[st.integers(1, 8).map(lambda side: 32 * side)] * 3),
    ids=st.lists(st.text("abc019_'", min_size=1), max_size=3).map(tuple),
    num_classes=st.none() | st.integers(2, 20),
)
def test_recipes_of_volumes_round_trip(spacing, window, sides, ids, num_classes) -> None:
    recipe = Recipe(
        data=VolumeData(
            source="x",
            spacing=spacing,
            intensity_window=window,
            patch_size=sides,
            validation_ids=ids,
        ),
        model=Model(num_classes=num_classes),
        training=VolumeTraining(validate_every=7),
    )
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assignments = [
        f"{section}.{name}={value}"
        for section, fields in recipe.to_dict().items()
        for name, value in fields.items()
    ]
    assert override(VOLUMES, assignments) == recipe


def test_recipes_stored_before_there_were_volumes_are_read() -> None:
    values = json.loads(json.dumps(RECIPE.to_dict()))
    del values["data"]["validation_ids"]
    assert Recipe.from_dict(values) == RECIPE


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"A recipe must be a mapping. Received: \[\]"),
        ({"data": 3}, r"data must be a mapping. Received: 3"),
        ({}, r"The recipe gives no data."),
        ({"data": {}}, r"The recipe gives no data.source."),
        ({"data": {"source": "x"}, "model": {"network": "x"}}, r"There is no network 'x'"),
        (
            {"data": {"source": "x", "patch_size": [32, 32, 32], "image_size": [32, 32]}},
            r"Unknown recipe key 'data.image_size'",
        ),
        (
            {"data": {"source": "x", "patch_size": [32, 32, 32]}, "training": {"momentum": 0.9}},
            r"Unknown recipe key 'training.momentum'",
        ),
        ({"data": {"source": "x"}, "trainig": {}}, r"'trainig'; did you mean training\?"),
    ],
)
def test_from_dict_refuses(values, message) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe.from_dict(values)


def test_load_executes_the_named_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "isic.py"  # goes before the bundled recipe of the same name
    path.write_text(
        "from keras_lgmsnet.recipe import Data, Recipe\nrecipe = Recipe(data=Data(source='mine'))\n"
    )
    assert load_recipe(path).data.source == "mine"
    monkeypatch.chdir(tmp_path)
    assert load_recipe("isic.py").data.source == "mine"
    assert load_recipe("isic").data.source == "isic2018_task1"


@pytest.mark.parametrize("name", ["isic", "isic.py", "recipes/isic.py", "recipes/isic"])
def test_bundled_recipe_names(name, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe(name) == RECIPE


@pytest.mark.parametrize("name", ["nothing", "mine/isic.py", "../recipes/isic.py", ""])
def test_absent_recipe_lists_the_bundled(name, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundled = (
        "btcv, busi, busi_ablations, busi_keras_cv, image_folder, isic, kits23, kvasir, "
        "msd_folder, quickstart, study_blocks, study_btcv, study_busi, study_busi_small, tnscui"
    )
    with pytest.raises(FileNotFoundError, match=f"bundled recipes are: {bundled}"):
        load_recipe(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", r"must define `recipe = Recipe\(...\)`"),
        ("recipe = 3", r"must define `recipe = .*where `recipe` is 3"),
        ("\nrecipe = Recipe()", r"mine.py, line 2: NameError"),
        ("recipe = (", r"mine.py: SyntaxError"),
        (
            "from keras_lgmsnet.recipe import Training\n\nTraining(epochs=0)",
            r"mine.py, line 3: ValueError: training.epochs must be at least 1",
        ),
        (
            "from keras_lgmsnet.recipe import Training\nTraining(epoch=0)",
            r"mine.py, line 2: TypeError: .*unexpected keyword argument 'epoch'",
        ),
    ],
)
def test_faulty_recipe_file(text, message, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_recipe(path)


def test_layers_of_keras_cv_keep_their_order_and_are_as_json_has_them() -> None:
    layers = {"RandomZoom": {"height_factor": (-0.1, 0.2)}, "RandomFlip": {}}
    recipe = Recipe(data=Data(source="x", augmentation=layers))
    assert recipe.data.augmentation == layers | {"RandomZoom": {"height_factor": [-0.1, 0.2]}}
    stored = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert stored == recipe
    assert list(stored.data.augmentation) == list(layers)


def test_btcv_recipe_is_the_published_one() -> None:
    data = VolumeData(
        source="btcv",
        spacing=(1.5, 1.5, 2),
        normalization="window",
        intensity_window=(-175, 250),
        validation_ids=[f"00{number}" for number in range(35, 41)],
    )
    assert load_recipe("btcv") == Recipe(data=data)


def test_recipes_of_volumes_are_of_rank_3() -> None:
    assert [load_recipe(name).kind.rank for name in ("btcv", "kits23", "msd_folder")] == [3, 3, 3]


@pytest.mark.parametrize(
    "name",
    [
        *("isic", "quickstart", "busi_keras_cv", "busi_ablations", "btcv", "kits23", "msd_folder"),
        *("study_busi", "study_blocks", "study_btcv", "study_busi_small"),
    ],
)
def test_docstring_opens_with_command_hardware_hours_and_score(name) -> None:
    text = (Path(__file__).parent.parent / "recipes" / f"{name}.py").read_text()
    for word in (f"lgms-train recipes/{name}.py", "Hardware:", "Time:", "Expected:"):
        assert word in text
