"""What a layer in two dimensions takes and returns: images, or the slices of volumes as images."""

import dataclasses
import math

from keras import KerasTensor, ops

from keras_lgmsnet.export.folding import Affine


@dataclasses.dataclass(frozen=True)
class Features:
    """Images, or the slices of volumes as images, and perhaps a batch norm yet to be applied.

    Args:
        images: Shape `(batch, height, width, channels)`; of volumes `(batch * depth, height, width,
            channels)`.
        depth: How many slices make a volume; `None` of images.
        pending: What is yet to be applied to the images, and may be folded into the layer that
            comes next; `None` for nothing.
    """

    images: KerasTensor
    depth: int | None
    pending: Affine | None = None

    @classmethod
    def from_input(cls, inputs: KerasTensor) -> "Features":
        """Return a network's input, images or volumes, in this form."""
        if len(inputs.shape) == 4:
            return cls(inputs, None)
        _, depth, *slice_shape = inputs.shape
        return cls(ops.reshape(inputs, (-1, *slice_shape)), depth)

    def to_output(self) -> KerasTensor:
        """Return the images, or the volumes that the slices make."""
        if self.depth is None:
            return self.settled()
        return ops.reshape(self.settled(), (-1, self.depth, *self.images.shape[1:]))

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[1:3]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.images.shape[-1]

    def settled(self) -> KerasTensor:
        """Return the images, to which nothing may be yet to be applied."""
        if self.pending is not None:
            raise ValueError("A norm is yet to be applied here: settle the features first.")
        return self.images

    def replace(self, images: KerasTensor) -> "Features":
        """Return other images, or slices of volumes, to which nothing is yet to be applied."""
        return Features(images, self.depth)

    @property
    def whole(self) -> KerasTensor:
        """The images, or of volumes `(batch, depth, height * width, channels)`."""
        if self.depth is None:
            return self.images
        return ops.reshape(self.images, (-1, self.depth, math.prod(self.sides), self.channels))

    def replace_whole(self, whole: KerasTensor) -> "Features":
        """Return what has another `whole`, of the same sides."""
        if self.depth is None:
            return self.replace(whole)
        return self.replace(ops.reshape(whole, (-1, *self.sides, whole.shape[-1])))
