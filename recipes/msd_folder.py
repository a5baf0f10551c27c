"""Your own volumes: a folder as the Medical Segmentation Decathlon or nnU-Net lays it out.

    lgms-train recipes/msd_folder.py --manual-dir FOLDER

Hardware: one CUDA GPU, or CPU cores with patience: `--set data.patch_size=32,32,32`.
Time: not measured on a GPU; depends on the number of volumes and the size of the patches.
Expected: depends on the volumes; a fifth of them is set aside, and scored once trained.

FOLDER holds `dataset.json`, which names labels and channels, `imagesTr` and `labelsTr`. Spacing and
normalisation are proposed from the volumes trained on, printed, and kept in `fingerprint.json`;
`--set data.spacing=1,1,1` and `--set data.intensity_window=-175,250` override them.
"""

from keras_lgmsnet.recipe import Recipe, VolumeData, VolumeTraining

recipe = Recipe(
    data=VolumeData(source="msd_folder", test_fraction=0.2, validation_fraction=0.1),
    training=VolumeTraining(epochs=300, warmup_epochs=10, validate_every=10),
)
