"""LGMSNet and the convolutional networks for images; others are in `attention_networks`."""

from keras_lgmsnet.models.network import U_STAGES, Network, Published, Sides, fixed, halved

NETWORKS = (
    Network(
        name="lgmsnet",
        rank=2,
        title="LGMSNet",
        module="keras_lgmsnet.models.lgmsnet",
        class_name="LGMSNet2D",
        stages=U_STAGES,
        sides=fixed(divisor=32),  # four poolings, and 2-wide patches in the deepest block
        paper="Thinning a medical image segmentation model via dual-level multiscale fusion, 2025",
        program="https://github.com/cq-dong/LGMSNet",
        differs="Exact GELU in the LMS blocks, where the paper has SiLU (activation='silu' has the "
        "paper's).",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=2_321_393,
                parameters_in_program=2_321_393,
                parameters_counted=2_321_265,
                multiply_adds=4_892_515_328,
                printed="2.32 M, 4.89 G (Table 1)",
            ),
        ),
    ),
    Network(
        name="unet",
        rank=2,
        title="U-Net",
        module="keras_lgmsnet.models.unet",
        class_name="UNet2D",
        stages=U_STAGES,
        sides=halved("filters", 5),
        paper="Ronneberger et al., U-Net, MICCAI 2015, in the form that LGMSNet's paper compares",
        program="https://github.com/FengheTan9/Medical-Image-Segmentation-Benchmarks",
        differs="Convolutions are padded and batch-normalized, and repeated pixels and a "
        "convolution stand for each transposed convolution.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=34_527_041,
                parameters_in_program=34_527_041,
                parameters_counted=34_527_041,
                multiply_adds=65_522_368_512,
                printed="34.52 M, 65.52 G (LGMSNet's Table 1)",
            ),
            Published(
                arguments={"block": "lms"},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=17_330_081,
                parameters_in_program=None,
                parameters_counted=17_328_161,
                multiply_adds=52_309_524_480,
                printed="17.33 M (LGMSNet's Table 6)",
                remark="The wiring is not published; it follows LGMSNet's own encoder stages.",
            ),
            Published(
                arguments={"block": "gms"},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=19_182_113,
                parameters_in_program=None,
                parameters_counted=19_180_705,
                multiply_adds=54_211_768_320,
                printed="19.18 M (LGMSNet's Table 6)",
                remark="The wiring is not published, and this one a proposal: others have as many "
                "parameters.",
            ),
        ),
    ),
    Network(
        name="cmunext",
        rank=2,
        title="CMUNeXt",
        module="keras_lgmsnet.models.cmunext",
        class_name="CMUNeXt2D",
        stages=U_STAGES,
        sides=fixed(divisor=16),
        paper="Tang et al., CMUNeXt, ISBI 2024",
        program="https://github.com/FengheTan9/CMUNeXt",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=3_149_185,
                parameters_in_program=3_149_185,
                parameters_counted=3_149_185,
                multiply_adds=7_417_733_120,
                printed="3.14 M, 7.41 G (LGMSNet's Table 1)",
            ),
        ),
    ),
    Network(
        name="attention_unet",
        rank=2,
        title="Attention U-Net",
        module="keras_lgmsnet.models.attention_unet",
        class_name="AttentionUNet2D",
        stages=U_STAGES,
        sides=halved("filters", 5),
        paper="Oktay et al., Attention U-Net, 2018, in the form that LGMSNet's paper compares",
        program="https://github.com/FengheTan9/Medical-Image-Segmentation-Benchmarks",
        differs="The decoder's features are upsampled before they gate a skip connection, so that "
        "nothing is strided; the first level has a gate, too; there is no deep supervision.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=34_878_573,
                parameters_in_program=34_878_573,
                parameters_counted=34_878_573,
                multiply_adds=66_631_847_936,
                printed="34.87 M, 66.63 G (LGMSNet's Table 1)",
            ),
        ),
    ),
    Network(
        name="nnunet",
        rank=2,
        title="nnU-Net",
        module="keras_lgmsnet.models.nnunet",
        class_name="NNUNet2D",
        stages=(
            *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5", "encoder6", "encoder7"),
            *("decoder7", "decoder6", "decoder5", "decoder4", "decoder3", "decoder2"),
        ),
        sides=halved("filters", 7, bottom=2),
        paper="Isensee et al., nnU-Net, Nature Methods 2021, the network of its version 1",
        program="https://github.com/MIC-DKFZ/nnUNet (branch nnunetv1)",
        differs="Max pooling and bilinear upsampling, where the paper has strided and transposed "
        "convolutions; no deep supervision; and nothing is planned by the dataset.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=26_100_992,
                parameters_in_program=26_101_952,
                parameters_counted=26_101_952,
                multiply_adds=12_717_537_280,
                printed="26.10 M, 12.67 G (LGMSNet's Table 1)",
                remark="The other 960 are of the program's heads for deep supervision. The printed "
                "count has these (0.001 G), but not the bilinear upsampling (0.045 G).",
            ),
        ),
    ),
    Network(
        name="unext",
        rank=2,
        title="UNeXt",
        module="keras_lgmsnet.models.unext",
        class_name="UNeXt2D",
        stages=(*U_STAGES, "decoder1"),
        sides=fixed(divisor=32),
        paper="Valanarasu and Patel, UNeXt, MICCAI 2022",
        program="https://github.com/jeya-maria-jose/UNeXt-pytorch",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=1_471_921,
                parameters_in_program=1_471_921,
                parameters_counted=1_471_921,
                multiply_adds=590_774_272,
                printed="1.47 M, 0.58 G (LGMSNet's Table 1), 0.57 G (UNeXt's paper)",
                remark="The printed counts do not have the bilinear upsampling (0.018 G).",
            ),
        ),
    ),
    Network(
        name="tinyunet",
        rank=2,
        title="TinyU-Net",
        module="keras_lgmsnet.models.tinyunet",
        class_name="TinyUNet2D",
        stages=(
            *("encoder1", "encoder2", "encoder3", "encoder4"),
            *("decoder4", "decoder3", "decoder2", "decoder1"),
        ),
        # Four poolings, and with a GMS block 2-wide patches in the bottleneck.
        sides=lambda arguments: Sides(divisor=32 if arguments.get("block") == "gms" else 16),
        paper="Chen et al., TinyU-Net, MICCAI 2024",
        program="https://github.com/ChenJunren-Lab/TinyU-Net",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=481_105,
                parameters_in_program=481_105,
                parameters_counted=481_105,
                multiply_adds=1_780_809_728,
                printed="0.48 M, 1.66 G (LGMSNet's Table 1)",
                remark="The printed count does not have the bicubic upsampling (0.12 G).",
            ),
            Published(
                arguments={"block": "lms"},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=690_937,
                parameters_in_program=None,
                parameters_counted=690_041,
                multiply_adds=2_295_496_704,
                printed="0.69 M (LGMSNet's ablation)",
                remark="The wiring is not published; it follows LGMSNet's own encoder stages.",
            ),
            Published(
                arguments={"block": "gms"},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=718_393,
                parameters_in_program=None,
                parameters_counted=717_497,
                multiply_adds=2_303_026_176,
                printed="0.71 M (LGMSNet's ablation)",
                remark="The wiring is not published, and this one a proposal.",
            ),
        ),
    ),
    Network(
        name="unireplknet",
        rank=2,
        title="UniRepLKNet",
        module="keras_lgmsnet.models.unireplknet",
        class_name="UniRepLKNet2D",
        stages=U_STAGES,
        sides=fixed(divisor=16),
        paper="Ding et al., UniRepLKNet, CVPR 2024, in the form that LGMSNet's paper compares",
        program="https://github.com/cq-dong/LGMSNet",
        differs="The stem keeps the image's sides and the stages are parted by poolings, where the "
        "paper quarters the sides and has strided convolutions with norms: features have "
        "1/2 to 1/16 of the sides, not 1/4 to 1/32. The decoder is LGMSNet's authors'.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=5_852_509,
                parameters_in_program=5_852_509,
                parameters_counted=5_835_949,
                multiply_adds=9_397_494_384,
                printed="5.83 M, 9.39 G (LGMSNet's Table 1)",
                remark="The printed counts have no bare vectors (16,560 scales and offsets) and no "
                "averages of squeeze-excitation (0.003 G).",
            ),
        ),
    ),
    Network(
        name="mobilevit",
        rank=2,
        title="MobileViT",
        module="keras_lgmsnet.models.mobilevit",
        class_name="MobileViT2D",
        stages=(
            *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5"),
            *("features", "pyramid", "head"),
        ),
        sides=fixed(divisor=64),  # five halvings, and 2-wide patches in the deepest level
        paper="Mehta and Rastegari, MobileViT, ICLR 2022, as LGMSNet's program has it",
        program="https://github.com/cq-dong/LGMSNet",
        differs="Attention is 32 wide at all levels, where the paper's is as wide as the tokens, "
        "and feed-forward layers are two times as wide as the tokens at the first level, "
        "four times at the others, where the paper's are twice. The head is not published: "
        "DeepLabV3's has the printed numbers.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=10_669_425,
                parameters_in_program=10_669_425,
                parameters_counted=10_669_425,
                multiply_adds=2_139_640_704,
                printed="10.66 M, 2.13 G (LGMSNet's Table 1)",
                remark="The program has the encoder; the head is not published, and DeepLabV3's a "
                "proposal that gives both numbers, which do not have the upsampling (0.001 G).",
            ),
        ),
    ),
    Network(
        name="repvit",
        rank=2,
        title="RepViT",
        module="keras_lgmsnet.models.repvit",
        class_name="RepViT2D",
        stages=(
            *("stem", "encoder1", "encoder2", "encoder3", "encoder4"),
            *("pyramid", "head"),
        ),
        sides=fixed(divisor=32),
        paper="Wang et al., RepViT, CVPR 2024, under the head of DeepLabV3",
        program="https://github.com/THU-MIG/RepViT (commit 8df4270, its first release)",
        differs="The paper has no such head: LGMSNet's does not tell which one it compared, and "
        "DeepLabV3's has the printed numbers. The encoder is that of the program's first "
        "release.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=14_377_217,
                parameters_in_program=14_377_217,
                parameters_counted=14_377_217,
                multiply_adds=2_799_886_976,
                printed="14.37 M, 2.79 G (LGMSNet's Table 1)",
                remark="The head is not published, and DeepLabV3's a proposal that gives both "
                "numbers. These do not have the averages of squeeze-excitation and the bilinear "
                "upsampling (0.002 G).",
            ),
        ),
    ),
    Network(
        name="transunet",
        rank=2,
        title="TransUNet",
        module="keras_lgmsnet.models.transunet",
        class_name="TransUNet2D",
        stages=(
            *("encoder1", "encoder2", "encoder3", "encoder4", "transformer"),
            *("decoder4", "decoder3", "decoder2", "decoder1", "decoder0"),
        ),
        sides=fixed(divisor=16, may_be_unknown=False),
        paper="Chen et al., TransUNet, 2021, with ResNet-50 and ViT-B/16",
        program="https://github.com/cq-dong/LGMSNet",
        differs="The first pooling is not padded, and its stage's skip connection filled up with "
        "zeros at its end; norms follow their convolutions, though the units are called "
        "pre-activated. The start from ImageNet is left out.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=105_322_001,
                parameters_in_program=105_322_001,
                parameters_counted=93_230_545,
                multiply_adds=37_341_705_216,
                printed="105.3 M, 38.52 G (LGMSNet's Table 1)",
                remark="The printed parameters are all of them, where the paper's usual count "
                "leaves out the standardized convolutions and the positions. The printed count of "
                "multiply-adds is likely to have the products of the attention (1.21 G).",
            ),
        ),
    ),
    Network(
        name="uctransnet",
        rank=2,
        title="UCTransNet",
        module="keras_lgmsnet.models.uctransnet",
        class_name="UCTransNet2D",
        stages=(
            *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5"),
            *("skip1", "skip2", "skip3", "skip4"),
            *("decoder4", "decoder3", "decoder2", "decoder1"),
        ),
        sides=fixed(divisor=16, may_be_unknown=False),
        paper="Wang et al., UCTransNet, AAAI 2022",
        program="https://github.com/McGregorWwww/UCTransNet",
        differs="Each head of the attention has as many channels as the level.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=66_488_257,
                parameters_in_program=66_488_257,
                parameters_counted=66_242_497,
                multiply_adds=42_051_134_464,
                printed="66.24 M, 43.06 G (LGMSNet's Table 1)",
                remark="The program mixes the transformer's outputs after it has upsampled them "
                "(1.07 G), this network before.",
            ),
        ),
    ),
    Network(
        name="unet_plus_plus",
        rank=2,
        title="U-Net++",
        module="keras_lgmsnet.models.unet_plus_plus",
        class_name="UNetPlusPlus2D",
        stages=(
            *("encoder0", "encoder1", "encoder2", "encoder3", "encoder4"),
            *("decoder3_1", "decoder2_2", "decoder1_3", "decoder0_4"),
        ),
        sides=fixed(divisor=32),
        paper="Zhou et al., UNet++, DLMIA 2018, in the form that LGMSNet's paper compares",
        program="https://github.com/FengheTan9/Medical-Image-Segmentation-Benchmarks",
        differs="The encoder is ResNet-34, whose first level has half the image's sides, where the "
        "paper's is plain; the logits of the first level's nodes are added up with learned "
        "weights.",
        published=(
            Published(
                arguments={},
                input_shape=(256, 256, 3),
                num_classes=1,
                parameters=26_904_137,
                parameters_in_program=26_904_137,
                parameters_counted=26_904_132,
                multiply_adds=37_638_111_232,
                printed="26.90 M, 37.62 G (LGMSNet's Table 1)",
            ),
        ),
    ),
)
