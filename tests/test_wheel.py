"""The wheel, installed outside the checkout, trains the bundled quickstart."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]

pytestmark = pytest.mark.no_backend


def test_the_installed_wheel_trains_a_bundled_recipe(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", tmp_path, CHECKOUT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {
        "keras_lgmsnet/demo_page/demo.css",
        "keras_lgmsnet/demo_page/demo.js",
        "keras_lgmsnet/demo_page/index.html",
        "keras_lgmsnet/demo_page/litertjs/LICENSE.txt",
        "keras_lgmsnet/export/model_card.md.jinja",
        "keras_lgmsnet/py.typed",
        "keras_lgmsnet/recipes/isic.py",
        "keras_lgmsnet/recipes/quickstart.py",
        "tfds_builders/isic2018_task1/CITATIONS.bib",
        "tfds_builders/isic2018_task1/README.md",
        "tfds_builders/isic2018_task1/TAGS.txt",
    } <= names
    assert {
        path.relative_to(CHECKOUT).as_posix()
        for pattern in ("*.jinja", "__init__.pyi")
        for path in (CHECKOUT / "keras_lgmsnet").rglob(pattern)
    } <= names
    assert not [name for name in names if name.startswith("tests/")]
    assert not [name for name in names if name.endswith(("_test.py", "_testing.py"))]

    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel],
        check=True,
    )
    smallest = {
        "data.num_images": "6",
        "data.image_size": "32,32",
        "model.dims": "4,4,4,4,4",
        "training.epochs": "1",
    }
    overrides = [f"--set={key}={value}" for key, value in smallest.items()]
    code = (
        "import pathlib; from keras_lgmsnet.cli import train;"
        f"assert pathlib.Path(train.__file__).is_relative_to({str(site)!r});"
        "train.train()"
    )
    subprocess.run(
        [sys.executable, "-c", code, "quickstart", "-o", "run", "--backend=torch", *overrides],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        check=True,
    )
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
