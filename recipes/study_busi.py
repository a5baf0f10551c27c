"""The networks of the paper's Table 1 on breast lesions in ultrasound (BUSI), as `busi.py` trains.

    lgms-train recipes/study_busi.py --manual-dir FOLDER_OF_BUSI --split-seeds 41,64,1337

It takes a run of each network on each of the paper's three splits, 54 in all, one after the other;
`--part 1/4` to `--part 4/4` share them between four processes that see the same folder.

Hardware: one CUDA GPU; how much memory it needs was not measured.
Time: not measured; each run is 500 epochs of 452 images at 256 × 256.
Expected: not measured. The paper prints, of the mean validation IoU over the splits, LGMSNet
    73.40 % and MADGNet 72.92 % at the upper end, MISSFormer 63.29 % and RepViT 56.07 % at the
    lower one.

Swin-Unet sees images of 224 × 224, the nearest that it takes; the paper counts MISSFormer for that
size, too, which takes the recipe's here.
"""

from keras_lgmsnet.recipe import load_recipe, study_of_networks

study = study_of_networks(
    load_recipe("busi"),
    [
        *("unet", "attention_unet", "unet_plus_plus", "swin_unet", "transunet", "missformer"),
        *("uctransnet", "nnunet", "madgnet", "mobilevit", "cmunext", "medt", "unireplknet"),
        *("repvit", "unext", "tinyunet", "erdunet", "lgmsnet"),
    ],
)
