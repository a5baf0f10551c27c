"""A comparison on BUSI that a CPU can make: seven networks, 12 epochs at 96 × 96 pixels.

    lgms-train recipes/study_busi_small.py --manual-dir FOLDER_OF_BUSI --split-seeds 41,64

LGMSNet beside its ablation with single kernels, U-Net at a quarter of its published width, CMUNeXt,
UNeXt, TinyU-Net, and TinyU-Net with LGMSNet's LMS blocks.

Hardware: two CPU cores.
Time: not measured; 14 runs of 452 images.
Expected: not measured.

It shows which networks learn quickly from few, small images. It does not repeat the paper's table,
where networks were trained forty times as long at 256 × 256, and most scores differ by less than
two splits tell apart.
"""

import dataclasses

from keras_lgmsnet.recipe import Model, load_recipe

_BUSI = load_recipe("busi")
_SMALL = dataclasses.replace(
    _BUSI,
    data=dataclasses.replace(_BUSI.data, image_size=(96, 96)),
    training=dataclasses.replace(_BUSI.training, epochs=12, batch_size=8, learning_rate=0.05),
)
_MODELS = {
    "LGMSNet": Model(),
    "LGMSNet, single kernels": Model(kernel_sizes=(3, 3, 3, 3)),
    "U-Net, narrow": Model(network="unet", filters=(16, 32, 64, 128, 256)),
    "CMUNeXt": Model(network="cmunext"),
    "UNeXt": Model(network="unext"),
    "TinyU-Net": Model(network="tinyunet"),
    "TinyU-Net + LMS": Model(network="tinyunet", block="lms"),
}

study = {label: dataclasses.replace(_SMALL, model=model) for label, model in _MODELS.items()}
