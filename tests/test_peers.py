"""The plain-PyTorch LGMSNet against hand-computed cases and its own frozen numbers."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from keras_lgmsnet.benchmark import torch_losses
from keras_lgmsnet.benchmark.peers import lgmsnet as peer
from tests.fixtures import generate
from tests.helpers import reference

pytestmark = pytest.mark.no_backend


@pytest.mark.parametrize(
    ("rank", "in_channels", "num_classes", "dims", "count"),
    [
        (2, 3, 1, (16, 32, 64, 128, 128), 2_321_393),
        (3, 1, 14, (16, 32, 64, 128, 128), 6_193_742),
        (3, 1, 14, (32, 64, 128, 128, 160), 9_885_214),
        (3, 1, 14, (32, 64, 128, 160, 256), 14_756_686),
    ],
)
def test_parameter_count(rank, in_channels, num_classes, dims, count):
    model = peer.LGMSNet(rank, in_channels, num_classes, dims)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("rank", [2, 3])
def test_parameters_carry_the_published_names(rank):
    model = peer.LGMSNet(rank, reference.IMAGE_SHAPES[rank][-1], reference.NUM_CLASSES[rank])
    assert generate.shapes(model) == reference.load()[f"{rank}d"]["parameters"]


@pytest.mark.parametrize("rank", [2, 3])
def test_stages_reproduce_the_frozen_numbers(rank):
    frozen = reference.load()[f"{rank}d"]["stages"]
    stages = generate.stages(rank)
    assert stages.keys() == frozen.keys()
    for name, stage in stages.items():
        assert stage["shape"] == frozen[name]["shape"]
        for number in ("mean", "std", "samples"):
            np.testing.assert_allclose(stage[number], frozen[name][number], atol=1e-9, err_msg=name)


def test_training_reproduces_the_frozen_numbers():
    frozen = reference.load()["training_2d"]
    training = generate.training()
    np.testing.assert_allclose(training["losses"], frozen["losses"], rtol=1e-7)
    assert training["gradient_norms"] == pytest.approx(frozen["gradient_norms"], rel=1e-7, abs=1e-9)


def test_bce_dice_loss_of_undecided_logits():
    loss = torch_losses.bce_dice_loss(torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4))
    assert loss.item() == pytest.approx(0.5 * math.log(2) + 1 - 2 / 3, abs=1e-6)


def test_dice_ce_loss_of_undecided_logits():
    loss = torch_losses.dice_ce_loss(
        torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 4, 4, 4, dtype=torch.long)
    )
    dice = (2 * 0.5 / (0.25 + 1), 0)  # of the class that fills the volume and of the absent one
    assert loss.item() == pytest.approx(math.log(2) + 1 - sum(dice) / 2, abs=1e-6)


def test_patches_of_a_4_by_4_image():
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    expected = [[0, 2, 8, 10], [1, 3, 9, 11], [4, 6, 12, 14], [5, 7, 13, 15]]
    assert peer.unfold_patches(image)[0, :, :, 0].tolist() == expected


@pytest.mark.parametrize("sides", [(4, 6), (2, 4, 6)])
def test_fold_patches_inverts_unfold_patches(sides):
    x = torch.randn(2, 3, *sides)
    assert torch.equal(peer.fold_patches(peer.unfold_patches(x), sides), x)


def test_attention_equals_scaled_dot_product_attention():
    attention = peer.Attention(channels=5)
    tokens = torch.randn(2, 4, 6, 5)
    query, key, value = attention.to_qkv(attention.norm(tokens)).reshape(2, 4, 6, 3, 4, 8).unbind(3)
    expected = functional.scaled_dot_product_attention(
        query.transpose(2, 3), key.transpose(2, 3), value.transpose(2, 3)
    )
    expected = attention.to_out(expected.transpose(2, 3).reshape(2, 4, 6, 32))
    torch.testing.assert_close(attention(tokens), expected)


@pytest.mark.parametrize(
    ("transformer_ratio", "branches"),
    [(0, {"conv_spilt"}), (0.5, {"conv_spilt", "transformer"}), (1, {"transformer"})],
)
@pytest.mark.parametrize("rank", [2, 3])
def test_gms_block_has_the_branches_its_ratio_asks_for(rank, transformer_ratio, branches):
    block = peer.GMSBlock(rank, in_channels=5, filters=6, transformer_ratio=transformer_ratio)
    assert branches == {"conv_spilt", "transformer"} & {k.split(".")[0] for k in block.state_dict()}
    assert block(torch.randn(2, 5, *[4] * rank)).shape == (2, 6, *[4] * rank)


@pytest.mark.parametrize("rank", [2, 3])
def test_lms_block_with_another_number_of_kernel_sizes(rank):
    block = peer.LMSBlock(rank, channels=6, kernel_sizes=(3, 5, 11), activation="silu")
    kernels = [tuple(block.get_parameter(f"dwc_{i}.weight").shape) for i in range(3)]
    assert kernels == [(2, 1, *[kernel_size] * rank) for kernel_size in (3, 5, 11)]
    assert block(torch.randn(2, 6, *[4] * rank)).shape == (2, 6, *[4] * rank)
