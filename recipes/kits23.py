"""Kidneys, their tumours and cysts in CT (KiTS23), with the published settings.

    lgms-train recipes/kits23.py --manual-dir CLONE_OF_kits23

Hardware: one CUDA GPU; how much memory it needs was not measured.
Time: not measured here; 5000 epochs of 391 volumes, each with 4 patches of 96 × 96 × 96 voxels.
Expected: not measured here. The paper's scores are of 599 cases, of which 489 are public, in a
    split that it does not tell.

A fifth of the cases is validated on, chosen at random from `data.split_seed` and listed in the run
directory's `splits.json`. The best epoch is picked on the same cases, which flatters;
`--set data.test_fraction=0.2` sets others aside beforehand.
"""

from keras_lgmsnet.recipe import Recipe, VolumeData

recipe = Recipe(
    data=VolumeData(
        source="kits23",
        spacing=(1.5, 1.5, 2.0),
        normalization="window",
        intensity_window=(-175, 250),  # Hounsfield units
        validation_fraction=0.2,
    )
)
