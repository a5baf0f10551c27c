"""What is read of a scan's file: its voxels, where they lie, and the header of what is written."""

from dataclasses import dataclass

import nibabel
import numpy as np

from keras_lgmsnet.geometry import Grid


@dataclass(frozen=True, eq=False)
class Volume:
    """A scan as it is in its file.

    Args:
        image: `float32` of shape `(x, y, z, channels)`, in the file's order of voxels and in its
            units, such as Hounsfield units.
        affine: `float64` of shape `(4, 4)`, from a voxel's indices to RAS+ millimetres.
        header: The file's header, which `write_label_map` and `write_map` pass on.
        remark: Why the voxels lie elsewhere than the header's sform has them, if they do.
    """

    image: np.ndarray
    affine: np.ndarray
    header: nibabel.Nifti1Header
    remark: str | None = None

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return Grid(self.image.shape[:3], self.affine)
