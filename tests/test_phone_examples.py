"""The examples for phones agree with what an export is, so far as no SDK is needed to tell."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from keras_lgmsnet.export import FORMATS
from keras_lgmsnet.export.model_card import describe_input, describe_output
from keras_lgmsnet.kinds import IMAGES
from keras_lgmsnet.recipe.schema import Data

DOCS = Path(__file__).parents[1] / "docs"
ANDROID = DOCS / "examples" / "android"
APP = ANDROID / "app" / "src" / "main"
BUILD = (ANDROID / "app" / "build.gradle.kts").read_text()
KOTLIN = {path.stem: path.read_text() for path in sorted(APP.rglob("*.kt"))}
SWIFT = (DOCS / "examples" / "ios" / "Segmenter.swift").read_text()
RESOURCES = sorted(APP.rglob("*.xml"))
# What `lgms-export` writes to export.json of a run on images, by default.
EXPORT = {
    "input": describe_input(Data(source="synthetic", num_images=2, image_size=(64, 96))),
    "output": describe_output(IMAGES, (None, 64, 96, 1), "none"),
}
NAMESPACE = "{http://schemas.android.com/apk/res/android}"

pytestmark = pytest.mark.no_backend


def looked_up(code: str) -> dict[str, Any]:
    """Return what Kotlin finds of an export, by the variables and calls that it names it with."""
    found: dict[str, Any] = {"export": EXPORT}
    steps = re.findall(r"(?:val (\w+) =)?\s*(\w+)((?:\??\.(?:get|opt)\w+\(\"?\w+\"?\))+)", code)
    for variable, start, calls in steps:
        if start not in found:
            continue
        value = found[start]
        for key in re.findall(r"\(\"?(\w+)\"?\)", calls):
            value = value[int(key) if key.isdecimal() else key]
        found[variable or f"{start}{calls}"] = value
    return found


def test_the_app_feeds_and_reads_a_model_as_the_export_says() -> None:
    code = KOTLIN["Segmenter"]
    found = looked_up(code)
    assert found["shape"] == [None, 64, 96, 3]
    assert found["shape.getInt(1)"] == 64
    assert found["shape.getInt(2)"] == 96
    assert found['input.optJSONObject("resize")?.getString("interpolation")'] == "linear"
    assert found['export.getJSONObject("output").getString("name")'] == "logits"
    # 8-bit RGB in, of whatever sign a byte has; float32 logits out.
    assert (EXPORT["input"]["dtype"], EXPORT["input"]["channel_order"]) == ("uint8", "RGB")
    assert "writeInt8(" in code
    assert "16 downTo 0 step 8" in code  # of 0xRRGGBB
    assert EXPORT["output"]["dtype"] == "float32"
    assert "readFloat()" in code
    assert "1 / (1 + exp(-" in code
    assert "> 0.5f" in code


def test_swift_reads_a_model_as_the_export_says() -> None:
    assert re.search(r"shape\[1\], shape\[2\]", SWIFT)
    assert "bindMemory(to: Float32.self)" in SWIFT
    assert "1 / (1 + exp(-" in SWIFT
    assert "> 0.5" in SWIFT


@pytest.mark.parametrize("code", [KOTLIN["Segmenter"], SWIFT], ids=["kotlin", "swift"])
def test_the_model_is_named_as_exports_name_it(code: str) -> None:
    (name,) = re.findall(r'model: String = "model_(\w+)(?:\.tflite)?"', code)
    assert name in FORMATS["tflite"]


@pytest.mark.parametrize("path", RESOURCES, ids=lambda path: path.name)
def test_resources_are_xml(path: Path) -> None:
    ElementTree.parse(path)


def test_what_is_referred_to_is_there() -> None:
    strings = {
        item.get("name")
        for item in ElementTree.parse(APP / "res/values/strings.xml").iter("string")
    }
    views = {
        (item.get(f"{NAMESPACE}id") or "").removeprefix("@+id/")
        for item in ElementTree.parse(APP / "res/layout/main.xml").iter()
    }
    files = {path.stem for path in RESOURCES}
    named = {"string": strings, "id": views, "layout": files, "xml": files}
    texts = [*KOTLIN.values(), *(path.read_text() for path in RESOURCES)]
    references = [
        *re.findall(r"\bR\.(\w+)\.(\w+)", "\n".join(texts)),
        *re.findall(r"\"@(\w+)/(\w+)\"", "\n".join(texts)),
    ]
    assert len(references) > 10
    for kind, name in references:
        assert name in named[kind], f"{kind}/{name}"


def test_the_activity_and_the_package_are_the_manifests() -> None:
    (namespace,) = re.findall(r'namespace = "([\w.]+)"', BUILD)
    manifest = ElementTree.parse(APP / "AndroidManifest.xml")
    (activity,) = manifest.iter("activity")
    name = activity.get(f"{NAMESPACE}name").removeprefix(".")
    assert re.search(rf"class {name}\b", KOTLIN[name])
    for path in APP.rglob("*.kt"):
        assert path.parent == APP / "kotlin" / namespace.replace(".", "/")
        assert path.read_text().startswith(f"package {namespace}\n")
    (provider,) = manifest.iter("provider")
    suffix = provider.get(f"{NAMESPACE}authorities").removeprefix("${applicationId}")
    assert f'"$packageName{suffix}"' in KOTLIN[name]
    assert not list(manifest.iter("uses-permission"))


def test_pages_name_the_versions_of_the_project() -> None:
    readme, phone = (ANDROID / "README.md").read_text(), (DOCS / "how-to/phone.md").read_text()
    project = "\n".join(
        (ANDROID / name).read_text()
        for name in (
            "build.gradle.kts",
            "app/build.gradle.kts",
            "gradle/wrapper/gradle-wrapper.properties",
        )
    )
    patterns = {
        "LiteRT": r"ai\.edge\.litert:litert:([\d.]+)",
        "Activity": r"activity:activity:([\d.]+)",
        "Core": r"core:core:([\d.]+)",
        "`minSdk`": r"minSdk = (\d+)",
        "`targetSdk`": r"targetSdk = (\d+)",
        "plugin": r'"com\.android\.application"\) version "([\d.]+)"',
        "Kotlin": r'"org\.jetbrains\.kotlin\.android"\) version "([\d.]+)"',
        "Gradle": r"gradle-([\d.]+)-bin",
    }
    versions = {name: re.search(pattern, project)[1] for name, pattern in patterns.items()}
    for name, version in versions.items():
        assert f"{name} {version}" in readme, name
    for page in (readme, phone, (DOCS.parent / "README.md").read_text()):
        assert set(re.findall(r"litert:litert:([\d.]+)", page)) <= {versions["LiteRT"]}
    assert f"litert:litert:{versions['LiteRT']}" in phone
    (pod,) = re.findall(r"'~> ([\d.]+)\.0'", (DOCS / "examples/ios/Podfile").read_text())
    assert f"`TensorFlowLiteSwift` {pod}," in (DOCS / "examples/ios/README.md").read_text()
