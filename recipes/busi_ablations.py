"""The paper's ablations of LGMSNet's two arguments (Fig. 7), on BUSI: `busi.py`, one field changed.

    lgms-train recipes/busi_ablations.py --manual-dir FOLDER_OF_BUSI CHANGE -o RUN

where CHANGE is one of the following, or nothing, for the network that the others are held against;
with `--split-seeds 41,64,1337`, each is a mean over the paper's three splits.

Kernel sizes of the LMS blocks:

    --set model.kernel_sizes=3,3,3,3        2,319,345 parameters
    --set model.kernel_sizes=5,5,5,5        2,320,369 parameters
    --set model.kernel_sizes=7,7,7,7        2,321,905 parameters
    --set model.kernel_sizes=9,9,9,9        2,323,953 parameters
    --set model.kernel_sizes=3,5,7,9        2,321,393 parameters

The transformer's share of the GMS blocks' channels, from all convolution to all transformer:

    --set model.transformer_ratio=0         2,120,433 parameters
    --set model.transformer_ratio=0.25      2,188,017 parameters
    --set model.transformer_ratio=0.5       2,254,705 parameters
    --set model.transformer_ratio=0.75      2,321,393 parameters
    --set model.transformer_ratio=1         2,388,081 parameters

Hardware: one CUDA GPU; how much memory it needs was not measured.
Time: not measured; each is a training of `busi.py`, 500 epochs of 452 images at 256 × 256.
Expected: not measured. The paper prints 73.40 ± 2.0 % IoU, 81.82 ± 1.9 % F1 for 3,5,7,9 and 0.75;
    the other scores it only draws. Its text says that 3,5,7,9 is, on average, 1 % above single
    kernels, that all convolution is the worst ratio on each of three datasets, and that all
    transformer is not the best.

The text names neither the other sets of kernels nor the three ratios between the extremes: here
they are single kernels and even steps. The same changes apply to `isic.py`, `kvasir.py` and
`tnscui.py`.
"""

from keras_lgmsnet.recipe import load_recipe

recipe = load_recipe("busi")
