"""Your own images and masks: a folder with `images/` and `masks/`, paired by name.

    lgms-train recipes/image_folder.py --manual-dir FOLDER

Hardware: one CUDA GPU, or two CPU cores with patience: `--set data.image_size=128,128`.
Time: not measured on a GPU; 150 passes over 1000 images of 256 × 256 are 150,000 images.
Expected: depends on the images; a tenth of them is set aside, and scored once trained.

Images of one patient belong into one folder within `images/` (and `masks/`): then none is trained
on that has another of the same patient in the validation or the test. Masks hold 0 and 255, or 0
and 1; those with blurred outlines are read by `--set data.mask_threshold=127`.
"""

from keras_lgmsnet.recipe import Data, Recipe, Training

recipe = Recipe(
    data=Data(source="image_folder", test_fraction=0.1, validation_fraction=0.2),
    training=Training(epochs=150, batch_size=8),
)
