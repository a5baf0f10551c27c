"""The folders of the dataset builders, and that they need no TensorFlow."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

import tfds_builders

pytestmark = pytest.mark.no_backend

ROOT = Path(tfds_builders.__file__).parent
NAMES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
USERS_OWN = ("image_folder", "msd_folder")


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_has_the_layout_of_tensorflow_datasets(name: str) -> None:
    files = {path.name for path in (ROOT / name).iterdir()} - {"__pycache__"}
    expected = {"__init__.py", "README.md", "TAGS.txt", "CITATIONS.bib"}
    expected |= {f"{name}_dataset_builder.py", f"{name}_dataset_builder_test.py"}
    assert files == expected - ({"CITATIONS.bib"} if name == "image_folder" else set())
    described = (ROOT / name / "README.md").read_text()
    for part in ("`image`", "`segmentation_mask`", "`group`", "**Licence**", "**How to obtain**"):
        assert part in described
    assert "allow_incomplete=True" in described


@pytest.mark.parametrize("name", NAMES)
def test_a_builder_has_the_features_of_all(name: str, tmp_path: Path) -> None:
    module = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder")
    builder = module.Builder(data_dir=tmp_path)
    assert builder.name == name
    volumes = "spacing" in builder.info.features
    assert {"image", "segmentation_mask", "id", "group"} <= set(builder.info.features)
    assert ("affine" in builder.info.features) == volumes
    kind = tfds.features.Tensor if volumes else tfds.features.Image
    assert isinstance(builder.info.features["image"], kind)
    assert builder.info.description.startswith((ROOT / name / "README.md").read_text()[:80])
    assert (builder.info.citation != "") == (name != "image_folder")
    assert len(builder.info.metadata["labels"]) >= 2
    if name not in USERS_OWN:
        assert builder.info.homepage.startswith("http")
        assert "http" in builder.MANUAL_DOWNLOAD_INSTRUCTIONS


@pytest.mark.parametrize("name", ["kvasir_seg", "ph2", "tucc", "msd_folder"])
def test_datasets_are_prepared_and_read_without_tensorflow(name: str, tmp_path: Path) -> None:
    test = importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder_test")
    test.TestArchive.write_archive(tmp_path / "manual")
    code = f"""
import sys
from importlib.machinery import PathFinder

class WithoutTensorFlow(PathFinder):  # finds what is installed, as if TensorFlow were not
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] != "tensorflow":
            return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTensorFlow
import tensorflow_datasets as tfds
from tfds_builders.{name} import {name}_dataset_builder as module

for count in ("NUM_EXAMPLES", "NUM_CLIPS"):
    if hasattr(module.Builder, count):
        setattr(module.Builder, count, 3)
config = module.Config(folder="manual") if hasattr(module, "Config") else None
builder = module.Builder(data_dir="data", config=config)
builder.download_and_prepare(
    file_format="array_record",
    download_config=tfds.download.DownloadConfig(manual_dir="manual"),
)
for example in builder.as_data_source("train"):
    assert example["segmentation_mask"].any()
    print(example["id"].decode())
"""
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    assert set(test.TestArchive.ids) <= set(child.stdout.split())
