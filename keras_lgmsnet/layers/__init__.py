"""The layers of the networks, for images and volumes, usable in any Keras network."""

from keras_lgmsnet.layers.atrous_pyramid import AtrousPyramidPooling
from keras_lgmsnet.layers.attention.axial import AxialAttention
from keras_lgmsnet.layers.attention.multi_head import MultiHeadAttention
from keras_lgmsnet.layers.attention.patches import PatchEmbedding, PatchExpansion, PatchMerging
from keras_lgmsnet.layers.attention.positions import PositionEmbedding
from keras_lgmsnet.layers.attention.windows import WindowAttention
from keras_lgmsnet.layers.channels import (
    AxialShift,
    ChannelwiseFeedForward,
    GlobalResponseNormalization,
    LayerScale,
    SqueezeExcitation,
)
from keras_lgmsnet.layers.conv_norm_activation import ConvNormActivation
from keras_lgmsnet.layers.convolution import DepthwiseConv, GroupedConv, StandardizedConv
from keras_lgmsnet.layers.fusion import FusionBlock
from keras_lgmsnet.layers.gms import DepthwiseResidual, GMSBlock, SparseTransformer
from keras_lgmsnet.layers.lms import LMSBlock
from keras_lgmsnet.layers.normalization import GhostBatchNormalization, GroupNormalization
from keras_lgmsnet.layers.parallel_depthwise import ParallelDepthwiseConv
from keras_lgmsnet.layers.resampling import (
    CubicUpsampling,
    LinearUpsampling,
    MaxPooling,
    NearestUpsampling,
    PatchFold,
    PatchUnfold,
    TransposedConv,
)
from keras_lgmsnet.layers.residual import ResidualBlock
from keras_lgmsnet.layers.selective_scan import SelectiveScan
from keras_lgmsnet.layers.three_order_mamba import ThreeOrderMamba
from keras_lgmsnet.layers.transposed import TransposedDepthwiseConv, TransposedPointwiseConv

__all__ = [
    "AtrousPyramidPooling",
    "AxialAttention",
    "AxialShift",
    "ChannelwiseFeedForward",
    "ConvNormActivation",
    "CubicUpsampling",
    "DepthwiseConv",
    "DepthwiseResidual",
    "FusionBlock",
    "GMSBlock",
    "GhostBatchNormalization",
    "GlobalResponseNormalization",
    "GroupNormalization",
    "GroupedConv",
    "LMSBlock",
    "LayerScale",
    "LinearUpsampling",
    "MaxPooling",
    "MultiHeadAttention",
    "NearestUpsampling",
    "ParallelDepthwiseConv",
    "PatchEmbedding",
    "PatchExpansion",
    "PatchFold",
    "PatchMerging",
    "PatchUnfold",
    "PositionEmbedding",
    "ResidualBlock",
    "SelectiveScan",
    "SparseTransformer",
    "SqueezeExcitation",
    "StandardizedConv",
    "ThreeOrderMamba",
    "TransposedConv",
    "TransposedDepthwiseConv",
    "TransposedPointwiseConv",
    "WindowAttention",
]
