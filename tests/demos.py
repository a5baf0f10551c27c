"""An export that is made in a moment, for the page that shows it."""

from pathlib import Path

from keras_lgmsnet._model_card import describe_input, describe_output
from keras_lgmsnet.recipe import Data
from keras_lgmsnet.run_directory import write_json


def write_export(
    folder: Path,
    models: dict[str, bytes],
    *,
    image_size: tuple[int, int] = (48, 64),
    interpolation: str = "linear",
    classes: tuple[str, ...] = ("lesion",),
) -> Path:
    """Write what the page reads of an export; return the folder.

    Args:
        folder: Where to write; made.
        models: TFLite models by precision.
        image_size: Height and width.
        interpolation: As in a recipe.
        classes: Names.
    """
    folder.mkdir(parents=True)
    data = Data(
        source="synthetic", num_images=2, image_size=image_size, interpolation=interpolation
    )
    files = {}
    for precision, content in models.items():
        name = f"model_{precision}.tflite"
        (folder / name).write_bytes(content)
        files[name] = {"format": "tflite", "precision": precision}
    write_json(
        folder / "export.json",
        {
            "classes": list(classes),
            "input": describe_input(data),
            "output": describe_output((None, *image_size, len(classes)), "none"),
            "files": files,
        },
    )
    return folder
