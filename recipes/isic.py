"""Skin lesions in dermoscopy (ISIC 2018 task 1), with the published settings but one.

    lgms-train recipes/isic.py --manual-dir FOLDER_WITH_THE_TWO_ISIC_ZIPS

Hardware: one CUDA GPU; how much memory it needs was not measured.
Time: not measured here; 500 epochs of 1815 images at 256 × 256.
Expected: validation IoU 83.46 %, F1 89.93 % (the paper's mean over three splits; each repeat
    picked its best epoch on the images it reports, which flatters).

Images are normalised once; the paper's scores come from its program's literal arithmetic, which
`--set data.preprocessing=published` repeats. The paper's splits 1, 2 and 3 are
`--set data.split_seed=41`, `64` and `1337`.
"""

from keras_lgmsnet.recipe import Data, Model, Recipe, Training

recipe = Recipe(
    data=Data(
        source="isic2018_task1",
        image_size=(256, 256),
        validation_fraction=0.3,
        split_seed=41,
        preprocessing="imagenet",  # "published" is the published program's literal arithmetic
        augmentation="rotate_flip",
    ),
    model=Model(num_classes=1),
    training=Training(
        epochs=500,
        batch_size=16,
        learning_rate=0.02,
        momentum=0.9,
        weight_decay=1e-4,
    ),
)
