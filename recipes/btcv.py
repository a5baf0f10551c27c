"""13 organs in abdominal CT (BTCV), with the published settings.

    lgms-train recipes/btcv.py --manual-dir FOLDER_OF_RawData

Hardware: one CUDA GPU; how much memory it needs was not measured.
Time: not measured here; 5000 epochs of 24 volumes, each with 4 patches of 96 × 96 × 96 voxels.
Expected: validation Dice 84.10 % (the paper's mean over the 13 organs; it picked the best epoch on
    the volumes it reports, which flatters).

Validated on are the six volumes that the published program's framework validates on, every 100
epochs: the published number of epochs between two validations is not known.
"""

from keras_lgmsnet.recipe import Recipe, VolumeData, VolumeTraining

recipe = Recipe(
    data=VolumeData(
        source="btcv",
        spacing=(1.5, 1.5, 2.0),
        normalization="window",
        intensity_window=(-175, 250),  # Hounsfield units
        patch_size=(96, 96, 96),
        patches_per_volume=4,
        positive_fraction=0.5,
        augmentation="flip_rotate_intensity",
        overlap=0.5,
        validation_ids=("0035", "0036", "0037", "0038", "0039", "0040"),
    ),
    training=VolumeTraining(
        epochs=5000,
        batch_size=1,
        learning_rate=1e-3,
        warmup_epochs=50,
        weight_decay=1e-5,
        validate_every=100,
    ),
)
