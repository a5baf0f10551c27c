"""What an export tells about itself: the metadata within every file, and the card beside them."""

import importlib
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2

from keras_lgmsnet.data.volume_fingerprint import FURTHEST, VolumeFingerprint
from keras_lgmsnet.export.promises import terms_for
from keras_lgmsnet.kinds import Kind, kind_of_rank
from keras_lgmsnet.recipe.schema import Data, VolumeData
from keras_lgmsnet.tables import markdown_table


def describe_input(data: Data) -> dict[str, Any]:
    """Tell how to feed the exported network from an image."""
    height, width = data.image_size
    filters = {
        "linear": "linear interpolation (OpenCV's INTER_LINEAR: half-pixel centres, no antialias)",
        "lanczos": "Lanczos interpolation (OpenCV's INTER_LANCZOS4, no antialias)",
    }
    return {
        "name": "image",
        "shape": [None, height, width, 3],
        "dtype": "uint8",
        "channel_order": "RGB",
        "resize": {
            "height": height,
            "width": width,
            "interpolation": data.interpolation,
            "rule": f"Resize it to {height} × {width} pixels (height × width), whatever its own "
            f"shape, by {filters[data.interpolation]}.",
        },
    }


def describe_patch_input(data: VolumeData, fingerprint: VolumeFingerprint) -> dict[str, Any]:
    """Tell how to feed the exported network from a scan."""
    names, windows = fingerprint.channels, fingerprint.intensity_windows
    if windows is None:
        rule = (
            "Subtract from each channel its mean and divide by its deviation, both of its voxels "
            f"brighter than the darkest, and clip what lies beyond {FURTHEST} deviations."
        )
    else:
        scaled = (
            f"{name} from {low:g} to {high:g}"
            for name, (low, high) in zip(names, windows, strict=True)
        )
        rule = f"Scale {', '.join(scaled)}, to 0 to 1, and clip what lies outside."
    return {
        "name": "image",
        "shape": [None, *data.patch_size, len(names)],
        "dtype": "float32",
        "axes": "x, y, z: to the right, to the front and up (RAS)",
        "channels": list(names),
        "spacing": list(fingerprint.spacing),
        "normalization": {
            "method": fingerprint.normalization,
            "intensity_windows": None if windows is None else [list(window) for window in windows],
            "rule": rule,
        },
        "crop_foreground": data.crop_foreground,
        "overlap": data.overlap,
    }


def describe_output(kind: Kind, shape: Sequence[int | None], activation: str) -> dict[str, Any]:
    """Tell what the exported network returns.

    Args:
        kind: What it segments.
        shape: Of the output.
        activation: `"none"`, of images `"sigmoid"`, of volumes `"softmax"`.
    """
    threshold = 0.0 if activation == "none" else 0.5
    return {
        "name": "logits" if activation == "none" else "probabilities",
        "shape": list(shape),
        "dtype": "float32",
        "activation": activation,
        "threshold": None if kind.classes_exclude_each_other else threshold,
        "rule": terms_for(kind).activations[activation],
    }


def read_classes(source: str) -> list[str]:
    """Return the names of the classes of a recipe's `data.source`, of images.

    The background, which is none of the network's, is left out.
    """
    if source == "synthetic":
        return ["lesion"]
    return list(_builder(source).LABELS.values())[1:]


def describe_training_data(source: str) -> dict[str, Any]:
    """Tell what the builder of a recipe's `data.source` tells of its images.

    Returns:
        `licence`, the terms in words; `citation` in BibTeX and `homepage`, or `None`.
    """
    if source == "synthetic":
        return {
            "licence": "none needed, the images were generated.",
            "citation": None,
            "homepage": None,
        }
    builder = _builder(source)
    told = builder.get_metadata()  # README.md and CITATIONS.bib beside the builder
    licence = re.search(r"\*\*Licence\*\*: (.+?)(?:\n\n|\Z)", told.description, re.DOTALL)
    assert licence is not None, f"The builder of {source} must tell the licence of its data."
    return {
        "licence": " ".join(licence[1].split()),
        "citation": (told.citation or "").strip() or None,
        "homepage": builder.HOMEPAGE,
    }


def render_card(exported: dict[str, Any]) -> str:
    """Return the model card, in Markdown, of the contents of an `export.json`."""
    environment = jinja2.Environment(
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shape"] = _shape
    template = (
        resources.files("keras_lgmsnet.export").joinpath("model_card.md.jinja").read_text("utf-8")
    )
    files = exported["files"].items()
    metrics = exported["metrics"]
    kind = kind_of_rank(exported["rank"])
    return environment.from_string(template).render(
        **exported,
        kind=kind,
        subject=terms_for(kind).subject,
        findings=exported["classes"][1 if kind.classes_exclude_each_other else 0 :],
        files_table=markdown_table(
            ["file", "format", "precision", "MB"],
            [
                [f"`{path}`", file["format"], file["precision"], f"{file['bytes'] / 1e6:.2f}"]
                for path, file in files
            ],
        ),
        agreement_table=agreement_table(exported),
        litert_table=_litert_table(exported),
        provenance_json=json.dumps(exported["provenance"], indent=2),
        metrics_table=metrics
        and markdown_table(
            ["metric", "mean"],
            [
                [name, "–" if mean is None else f"{mean:.4f}"]
                for name, mean in metrics["means"].items()
            ],
        ),
    )


def agreement_table(exported: dict[str, Any]) -> str:
    """Return the Markdown table of how far each file agrees with the Keras network.

    Args:
        exported: The contents of an `export.json`.
    """
    rows = []
    kind = kind_of_rank(exported["rank"])
    terms = terms_for(kind)
    for path, file in exported["files"].items():
        agreement = file["agreement"]
        rows.append(
            [
                path,
                f"{agreement['max_probability_difference']:.1e}",
                f"{100 * agreement['changed_pixels']:.4f}",
                *(
                    f"{100 * agreement[name]:.2f} (Keras {100 * agreement[f'network_{name}']:.2f})"
                    for name in ("iou", "f1")
                ),
                terms.promises[file["precision"]].words,
            ]
        )
    return markdown_table(
        [
            "file",
            "probability off by at most",
            f"{kind.element}s changed, %",
            "IoU, %",
            f"{terms.f1_name}, %",
            "promised",
        ],
        rows,
    )


def _litert_table(exported: dict[str, Any]) -> str | None:
    """Return the Markdown table of who computes the TFLite files, `None` if there are none."""

    def named(operators: dict[str, int]) -> str:
        return ", ".join(f"{count} {name}" for name, count in operators.items()) or "none"

    rows = [
        [
            f"`{path}`",
            str(file["litert"]["operators"]),
            f"{100 * file['litert']['delegated_share']:.1f}",
            named(file["litert"]["not_delegated"]),
            str(file["litert"]["max_axes"]),
            named(file["litert"]["not_on_gpu"]),
        ]
        for path, file in exported["files"].items()
        if file["format"] == "tflite"
    ]
    if not rows:
        return None
    return markdown_table(
        ["file", "operators", "on XNNPACK, %", "others", "most axes", "not for the GPU delegate"],
        rows,
    )


def _builder(source: str) -> Any:
    """Return the builder's class of a recipe's `data.source`."""
    name, _, _ = source.partition("/")
    return importlib.import_module(f"tfds_builders.{name}.{name}_dataset_builder").Builder


def _shape(shape: Sequence[int | None]) -> str:
    return f"({', '.join('batch' if side is None else str(side) for side in shape)})"
