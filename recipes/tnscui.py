"""Thyroid nodules in ultrasound (TNSCUI 2020), with the published settings but one.

    lgms-train recipes/tnscui.py --manual-dir FOLDER_OF_image_AND_mask

Hardware: one CUDA GPU; how much memory it needs was not measured.
Time: not measured here; 500 epochs of 2550 images at 256 × 256.
Expected: validation IoU 78.03 ± 0.3 %, F1 86.17 ± 0.3 % (the paper's three splits; each repeat
    picked its best epoch on the images it reports, which flatters).

Images are normalised once; the paper's scores come from its program's literal arithmetic, which
`--set data.preprocessing=published` repeats. The paper's splits 1, 2 and 3 are
`--set data.split_seed=41`, `64` and `1337`.
"""

from keras_lgmsnet.recipe import Data, Recipe

recipe = Recipe(data=Data(source="tnscui2020"))
