"""The networks for images that attend over the image, or weigh its parts by one another."""

from collections.abc import Mapping
from typing import Any

from keras_lgmsnet.models.network import Network, Published, Sides, fixed


def _of_patches(arguments: Mapping[str, Any]) -> Sides:
    """Return the sides of MedT, whose patches of 32 × 32 lie side by side in the image."""
    patches = arguments.get("patches")
    # What is no number the constructor refuses, in its own words.
    least = 32 * (patches if isinstance(patches, int) and patches > 0 else 4)
    return Sides(divisor=4, least=least, may_be_unknown=False)


def _window(arguments: Mapping[str, Any]) -> int:
    window = arguments.get("window", 7)
    # What is none the constructor refuses, in its own words.
    return window if isinstance(window, int) and window > 0 else 7


NETWORKS = (
    Network(
        name="swin_unet",
        rank=2,
        title="Swin-Unet",
        module="keras_lgmsnet.models.swin_unet",
        class_name="SwinUNet2D",
        stages=(
            *("encoder1", "encoder2", "encoder3", "encoder4"),
            *("decoder3", "decoder2", "decoder1"),
        ),
        # Patches of 4 pixels, merged three times, in windows.
        sides=lambda arguments: Sides(divisor=32 * _window(arguments), may_be_unknown=False),
        paper="Cao et al., Swin-Unet, ECCVW 2022",
        program="https://github.com/HuCaoFighting/Swin-Unet",
        differs="The decoder has as many blocks a level as the encoder, though the program's own "
        "configuration asks for one at the last.",
        published=(
            Published(
                arguments={},
                input_shape=(224, 224, 3),
                num_classes=1,
                parameters=27_168_132,
                parameters_in_program=27_168_132,
                parameters_counted=27_145_824,
                multiply_adds=5_910_806_496,
                printed="27.14 M, 5.91 G (LGMSNet's Table 1)",
                remark="The printed count does not have the tables of positions (22,308). The row "
                "is at 224 × 224.",
            ),
        ),
    ),
    Network(
        name="missformer",
        rank=2,
        title="MISSFormer",
        module="keras_lgmsnet.models.missformer",
        class_name="MISSFormer2D",
        stages=(
            *("encoder1", "encoder2", "encoder3", "encoder4"),
            *("decoder3", "decoder2", "decoder1"),
        ),
        sides=fixed(divisor=32, may_be_unknown=False),
        paper="Huang et al., MISSFormer, 2021",
        program="https://github.com/ZhifangDeng/MISSFormer",
        differs="The bridge reads the three upper maps with the channels first, so that its tokens "
        "mix places and channels.",
        published=(
            Published(
                arguments={},
                input_shape=(224, 224, 3),
                num_classes=1,
                parameters=35_452_225,
                parameters_in_program=42_462_017,
                parameters_counted=35_452_225,
                multiply_adds=5_538_788_304,
                printed="35.45 M, 7.25 G (LGMSNet's Table 1)",
                remark="The other 7,009,792 are of layers that the program never uses. The printed "
                "count has the first dense layer of each feed-forward layer twice (1.77 G), as the "
                "program computes it, to the same end, and no softmax (0.06 G). The row is at "
                "224 × 224.",
            ),
        ),
    ),
    Network(
        name="medt",
        rank=2,
        title="MedT",
        module="keras_lgmsnet.models.medt",
        class_name="MedT2D",
        stages=("stem", "encoder1", "encoder2", "decoder1", "map", "local", "fusion"),
        sides=_of_patches,
        paper="Valanarasu et al., Medical Transformer, MICCAI 2021",
        program="https://github.com/jeya-maria-jose/Medical-Transformer",
        differs="The local branch sees 4 × 4 patches from the image's top left corner, whatever "
        "its sides, where the paper's patches cover the image, and beyond them the global "
        "branch's features count twice. The gates are not trained.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=1_528_625,
                parameters_in_program=1_564_202,
                parameters_counted=1_370_969,
                multiply_adds=2_821_349_376,
                printed="1.37 M, 2.40 G (LGMSNet's Table 1)",
                remark="The program never uses 35,553 of its parameters, and does not train its 24 "
                "gates. The printed counts have no kernels of queries, keys and "
                "values (149,504; 0.172 G), no positions (8,152), no softmax (0.220 G) and no "
                "bilinear upsampling (0.023 G).",
            ),
        ),
    ),
    Network(
        name="madgnet",
        rank=2,
        title="MADGNet",
        module="keras_lgmsnet.models.madgnet",
        class_name="MADGNet2D",
        stages=(
            *("encoder0", "encoder1", "encoder2", "encoder3", "encoder4"),
            *("decoder3", "decoder2", "decoder1", "decoder0"),
        ),
        # Known, since they decide which scales are pooled.
        sides=fixed(divisor=32, may_be_unknown=False),
        paper="Nam et al., MADGNet, CVPR 2024, as LGMSNet's program has it",
        program="https://github.com/cq-dong/LGMSNet",
        differs="The encoder is ResNet-50, where the paper's is ResNeSt-50, with more channels in "
        "the decoder; it is not trained on distances and borders.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=31_554_331,
                parameters_in_program=31_555_684,
                parameters_counted=31_555_660,
                multiply_adds=10_064_499_200,
                printed="31.56 M, 10.08 G (LGMSNet's Table 1)",
                remark="The other 1,353 are of the heads for training, see auxiliary_outputs.",
            ),
        ),
    ),
    Network(
        name="erdunet",
        rank=2,
        title="ERDUnet",
        module="keras_lgmsnet.models.erdunet",
        class_name="ERDUNet2D",
        stages=(
            *("fine", "encoder0", "encoder1", "encoder2", "encoder3"),
            *("context1", "context2", "context3"),
            *("middle", "decoder3", "decoder2", "decoder1"),
            *("focus", "second_encoder1", "second_encoder2", "second_encoder3"),
            *("second_middle", "second_decoder2", "second_decoder1", "head"),
        ),
        sides=fixed(divisor=16),
        paper="Li et al., ERDUnet, TCSVT 2024",
        program="https://github.com/caijilia/ERDUnet (commit b42bf10)",
        differs="Unknown: the program was followed, and the paper not compared. Any sides that are "
        "divisible by 16 are taken, where the program fixes them.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=10_080_381,
                parameters_in_program=10_303_733,
                parameters_counted=10_212_611,
                multiply_adds=9_954_895_440,
                printed="10.21 M, 10.29 G (LGMSNet's Table 1)",
                remark="The printed counts have what runs in the program without an effect on the "
                "logits: the heads of auxiliary_outputs (0.11 M, 0.03 G), and convolutions whose "
                "outputs nothing reads (0.02 M, 0.32 G). 388 parameters have no gradient in the "
                "program and are not trained here.",
            ),
        ),
    ),
)
