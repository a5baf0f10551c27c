"""The networks for volumes: `keras_lgmsnet.models.registry` finds them by name."""

from keras_lgmsnet.models.network import U_STAGES, Network, Published, fixed, halved, sliced

NETWORKS = (
    Network(
        name="lgmsnet",
        rank=3,
        title="LGMSNet",
        module="keras_lgmsnet.models.lgmsnet",
        class_name="LGMSNet3D",
        stages=U_STAGES,
        sides=fixed(divisor=32),  # four poolings, and 2-wide patches in the deepest block
        paper="Thinning a medical image segmentation model via dual-level multiscale fusion, 2025",
        program="https://github.com/cq-dong/LGMSNet",
        differs="Exact GELU in the LMS blocks, where the paper has SiLU (activation='silu' has the "
        "paper's).",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=6_193_742,
                parameters_in_program=6_193_742,
                parameters_counted=6_193_614,
                multiply_adds=67_779_707_904,
                printed="9.86 M (Table 3)",
                remark="Another configuration than the published program's, whose count this is.",
            ),
        ),
    ),
    Network(
        name="unet",
        rank=3,
        title="U-Net",
        module="keras_lgmsnet.models.unet",
        class_name="UNet3D",
        stages=("encoder1", "encoder2", "encoder3", "encoder4", "decoder4", "decoder3", "decoder2"),
        sides=halved("filters", 4),
        paper="Çiçek et al., 3D U-Net, MICCAI 2016",
        program=None,
        differs="Convolutions are padded; where features are joined the skip connection is first, "
        "and the batch norms' epsilon is 1e-5, of both of which the paper says nothing.",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=19_073_614,
                parameters_in_program=None,
                parameters_counted=19_068_942,
                multiply_adds=826_016_071_680,
                printed="19,069,955 with three channels and three classes (its paper)",
                remark="Its paper does not count the batch norms, and pads nothing.",
            ),
        ),
    ),
    Network(
        name="mednext",
        rank=3,
        title="MedNeXt",
        module="keras_lgmsnet.models.mednext",
        class_name="MedNeXt3D",
        stages=(
            *("encoder1", "encoder2", "encoder3", "encoder4", "bottleneck"),
            *("decoder4", "decoder3", "decoder2", "decoder1"),
        ),
        sides=fixed(divisor=16),
        paper="Roy et al., MedNeXt, MICCAI 2023",
        program="https://github.com/MIC-DKFZ/MedNeXt",
        differs="The heads for deep supervision, by which the paper trains, are left out: the "
        "printed count is without them.",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=10_526_702,
                parameters_in_program=10_526_703,
                parameters_counted=10_517_934,
                multiply_adds=71_051_663_616,
                printed="10.51 M (LGMSNet's Table 3)",
                remark="The printed count is thop's (10,517,934), cut after two decimals, which "
                "leaves out the 8,768 scales and offsets of the norms. The program has one idle "
                "parameter. thop itself finds 74.59 G: it counts transposed convolutions by their "
                "outputs (5.52 G for 1.07), and no norms (0.91 G).",
            ),
        ),
    ),
    Network(
        name="swin_unetr",
        rank=3,
        title="Swin UNETR",
        module="keras_lgmsnet.models.swin_unetr",
        class_name="SwinUNETR3D",
        stages=(
            *("transformer1", "transformer2", "transformer3", "transformer4"),
            *("encoder1", "encoder2", "encoder3", "encoder4", "encoder10"),
            *("decoder5", "decoder4", "decoder3", "decoder2", "decoder1"),
        ),
        # Patches of 2 voxels, merged four times, in windows.
        sides=fixed(divisor=32, may_be_unknown=False),
        paper="Hatamizadeh et al., Swin UNETR, MICCAI BrainLes 2021",
        program="https://github.com/Project-MONAI/MONAI (version 0.9.0)",
        differs="Patches are merged as MONAI 0.9.0 does, of whose eight voxels two are joined "
        "twice and two never; distinct_octants=True joins each once, as later versions do.",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=62_187_296,
                parameters_in_program=62_187_296,
                parameters_counted=61_989_566,
                multiply_adds=308_896_874_520,
                printed="61.98 M (LGMSNet's Table 3)",
                remark="The printed count does not have the tables of positions (197,730), and is "
                "cut off after two decimals. The tool that it is by finds 329.84 G: it multiplies "
                "the kernels of transposed convolutions by their outputs (20.96 G more), and knows "
                "no norms without parameters (0.01 G less).",
            ),
        ),
    ),
    Network(
        name="segmamba",
        rank=3,
        title="SegMamba",
        module="keras_lgmsnet.models.segmamba",
        class_name="SegMamba3D",
        stages=(
            *("scan1", "scan2", "scan3", "scan4"),
            *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5"),
            *("decoder5", "decoder4", "decoder3", "decoder2", "decoder1"),
        ),
        sides=sliced("num_slices", (64, 32, 16, 8), divisor=16, may_be_unknown=False),
        paper="Xing et al., SegMamba, MICCAI 2024",
        program="https://github.com/ge-xing/SegMamba",
        differs="The paper draws a layer norm and a perceptron after each scan, where the program "
        "has the perceptron on the way to the decoder only. The printed count fits a Mamba "
        "of one order better than the three of both.",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=67_363_262,
                parameters_in_program=67_363_262,
                parameters_counted=65_183_102,
                multiply_adds=616_046_819_328,
                printed="65.18 M (LGMSNet's Table 3)",
                remark="The printed count is that of Mambas of one order, of which the tool sees "
                "two dense layers and the convolution; no program with such is published. Of the "
                "multiply-adds, 4.06 G are the scans', three a state and token.",
            ),
        ),
    ),
    Network(
        name="unetr",
        rank=3,
        title="UNETR",
        module="keras_lgmsnet.models.unetr",
        class_name="UNETR3D",
        stages=(
            *("encoder1", "encoder2", "encoder3", "encoder4", "transformer"),
            *("decoder5", "decoder4", "decoder3", "decoder2"),
        ),
        sides=fixed(divisor=16, may_be_unknown=False),  # a patch's, with a position each
        paper="Hatamizadeh et al., UNETR, WACV 2022",
        program="https://github.com/Project-MONAI/research-contributions",
        differs="The decoder takes what the 4th, 7th and 10th block of the transformer put out, "
        "where the paper's figure has the 3rd, 6th and 9th.",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=92_784_046,
                parameters_in_program=92_784_046,
                parameters_counted=92_618_158,
                multiply_adds=72_618_242_688,
                printed="92.61 M (LGMSNet's Table 3), 92.58 M (its paper)",
                remark="The printed count does not have the table of positions (165,888).",
            ),
        ),
    ),
    Network(
        name="ux_net",
        rank=3,
        title="3D UX-Net",
        module="keras_lgmsnet.models.ux_net",
        class_name="UXNet3D",
        stages=(
            *("stage1", "stage2", "stage3", "stage4"),
            *("encoder1", "encoder2", "encoder3", "encoder4", "encoder5"),
            *("decoder5", "decoder4", "decoder3", "decoder2", "decoder1"),
        ),
        sides=fixed(divisor=16),
        paper="Lee et al., 3D UX-Net, ICLR 2023",
        program="https://github.com/MASILab/3DUX-Net",
        published=(
            Published(
                arguments={},
                input_shape=(96, 96, 96, 1),
                num_classes=14,
                parameters=53_006_510,
                parameters_in_program=53_006_510,
                parameters_counted=52_999_982,
                multiply_adds=578_767_140_864,
                printed="53.01 M (LGMSNet's Table 3)",
                remark="All parameters count in the printed number.",
            ),
        ),
    ),
)
