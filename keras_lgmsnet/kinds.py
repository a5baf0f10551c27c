"""The two kinds of data, images and volumes, and what differs between them for several modules.

A recipe knows its kind, and so do a run and whatever was read from one. What a single module needs
for each kind, or does for each in its own way, it chooses by `Kind.choose`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

ForImages = TypeVar("ForImages")
ForVolumes = TypeVar("ForVolumes")


@dataclass(frozen=True, eq=False)
class Kind:
    """Images or volumes.

    Args:
        name: What many are called: `"images"`.
        example: What one is called: `"image"`.
        rank: The number of axes in space.
        element: What one is made of: `"pixel"`.
        size_field: The field of a recipe's `data` that tells the sides of what the network sees.
        classes_exclude_each_other: Whether an element belongs to one class, the first of which is
            the background; otherwise the classes' masks may overlap, and there is no background.
        headlines: The scores that a training ends with, and what they are called.
        best_by: The validation score of the history whose maximum tells the best epoch.
        caution: What must be said with scores of the examples that were validated on.

    Example:
    ```python
    recipe.kind.name, recipe.kind.rank  # "images", 2
    network_class = recipe.kind.choose(images=LGMSNet2D, volumes=LGMSNet3D)
    ```
    """

    name: str
    example: str
    rank: int
    element: str
    size_field: str
    classes_exclude_each_other: bool
    headlines: Mapping[str, str]
    best_by: str
    caution: str

    def __reduce__(self) -> tuple[Callable[[str], "Kind"], tuple[str]]:
        """Let a copy, also in another process, be the one object of its kind."""
        return kind_named, (self.name,)

    def choose(self, *, images: ForImages, volumes: ForVolumes) -> ForImages | ForVolumes:
        """Return what is given for this kind."""
        return images if self is IMAGES else volumes

    def noun(self, count: int) -> str:
        """Return what so many are called: `"image"` of 1, else `"images"`."""
        return self.example if count == 1 else self.name


IMAGES = Kind(
    name="images",
    example="image",
    rank=2,
    element="pixel",
    size_field="image_size",
    classes_exclude_each_other=False,
    headlines={"iou": "IoU", "f1": "F1"},
    best_by="val_iou",
    caution="Optimistic: the best epoch was picked by its IoU on these same images, as in the "
    "paper.",
)
VOLUMES = Kind(
    name="volumes",
    example="volume",
    rank=3,
    element="voxel",
    size_field="patch_size",
    classes_exclude_each_other=True,
    headlines={"dice": "Dice"},
    best_by="val_dice",
    caution="Optimistic: the best epoch was picked by its Dice on these same volumes, as in the "
    "paper.",
)
KINDS = (IMAGES, VOLUMES)


def kind_named(name: str) -> Kind:
    """Return the kind of a name.

    Raises:
        ValueError: If there is none.
    """
    return _find("name", name)


def kind_of_rank(rank: int) -> Kind:
    """Return the kind whose examples have so many axes in space.

    Raises:
        ValueError: If there is none.
    """
    return _find("rank", rank)


def _find(field: str, value: object) -> Kind:
    for kind in KINDS:
        if getattr(kind, field) == value:
            return kind
    known = " or ".join(repr(getattr(kind, field)) for kind in KINDS)
    raise ValueError(f"The {field} of a kind of data must be {known}. Received: {value!r}")
