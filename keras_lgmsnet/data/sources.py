"""Where a recipe's images come from: a dataset builder, or the generator."""

from pathlib import Path

from keras_lgmsnet.data import synthetic
from keras_lgmsnet.data.builders import require_masks_of_users
from keras_lgmsnet.data.decoded import load_examples
from keras_lgmsnet.data.images import Examples
from keras_lgmsnet.files.paths import printable
from keras_lgmsnet.recipe.schema import ImageRecipe


def read_examples(
    recipe: ImageRecipe,
    manual_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    *,
    source: str | None = None,
    allow_incomplete: bool = False,
    mask_threshold: int | None = None,
) -> Examples:
    """Read a recipe's images, or another dataset's in the way the recipe reads its own.

    Args:
        recipe: Its `data.source` is read, at its `data.image_size`.
        manual_dir: Folder with the dataset's archives, as downloaded from its publisher.
        data_dir: Folder of prepared datasets; by default TensorFlow Datasets' own.
        source: Name of a dataset to read instead of the recipe's.
        allow_incomplete: Whether an archive may be short of its published count. The recipe's
            `data.allow_incomplete` says so of its own dataset only.
        mask_threshold: Above which value a mask of `"image_folder"` is foreground, in place of the
            recipe's `data.mask_threshold`, which says so of its own dataset only.

    Raises:
        ValueError: If the dataset is incomplete and may not be, unknown or damaged, or has other
            classes than the model.
        FileNotFoundError: If the dataset is neither prepared nor downloaded.

    Example:
    ```python
    examples = read_examples(load_recipe("isic"), manual_dir="Downloads", source="ph2")
    ```
    """
    data = recipe.data
    source = source or data.source
    if mask_threshold is None and source == data.source:
        mask_threshold = data.mask_threshold
    require_masks_of_users(source, mask_threshold)
    if source == data.source == "synthetic":
        assert data.num_images is not None  # as a recipe requires of synthetic images
        examples = synthetic.generate(data.num_images, data.image_size)
    else:
        examples = load_examples(
            source,
            data.image_size,
            manual_dir,
            data_dir,
            interpolation=data.interpolation,
            allow_incomplete=allow_incomplete or (data.allow_incomplete and source == data.source),
            mask_threshold=mask_threshold,
        )
    num_classes = examples.segmentation_masks.shape[-1]
    if num_classes != recipe.model.num_classes:
        raise ValueError(
            f"model.num_classes must be the {num_classes} of {source}. "
            f"Received: {recipe.model.num_classes}"
        )
    return examples


def describe_source(source: str, manual_dir: str | Path | None) -> str:
    """Return what to call a dataset: its name, and for a folder of the user's that folder's, too.

    Args:
        source: A recipe's `data.source`.
        manual_dir: The folder that is read.

    Example:
    ```python
    describe_source("image_folder", "/data/ultrasound")  # "image_folder/ultrasound"
    ```
    """
    if source not in ("image_folder", "msd_folder") or manual_dir is None:
        return source
    return f"{source}/{printable(Path(manual_dir).expanduser().resolve().name)}"
