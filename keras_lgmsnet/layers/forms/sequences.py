"""Attention of a batch of sequences, each within itself, all at once or few at a time."""

from collections.abc import Callable
from typing import Any

from keras_lgmsnet.layers.forms import choose, form

# Numbers in float32 that a core's second-level cache keeps, or nearly: 4 MB.
PIECE = 2**20


def choose_sequences(rank: int) -> Callable[[Callable[..., Any], int], Callable[..., Any]]:
    """Return what makes of a function one that is as fast as can be on the device.

    The function computes each element of a batch, images of `rank` 2 or volumes of 3 cut into
    sequences, by itself. It comes with how many numbers it makes of an element, at most.
    """
    return choose("sequences", rank=rank)


@form("sequences", "at once")
def at_once(function: Callable[..., Any], size: int) -> Callable[..., Any]:
    """Return the function as it is."""
    return function


@form("sequences", "in pieces", backends=("torch",))
def in_pieces(function: Callable[..., Any], size: int) -> Callable[..., Any]:
    """Return a function that is given few sequences at a time.

    PyTorch asks the system for every large tensor anew, whose pages are cleared when they are first
    written, which takes longer than to compute the scores of a sequence. Small tensors stay in the
    cache.
    """
    import torch

    def call(*inputs: Any) -> Any:
        length = max(1, PIECE // size)
        if len(inputs[0]) <= length:
            return function(*inputs)
        pieces = zip(*(torch.split(tensor, length) for tensor in inputs), strict=True)
        return torch.cat([function(*piece) for piece in pieces])

    return call


@form("sequences", "in a loop", backends=("jax",))
def in_a_loop(function: Callable[..., Any], size: int) -> Callable[..., Any]:
    """Return a function that computes few sequences in each turn of one compiled loop.

    What it makes stays in the cache, and is computed again for the gradient.
    """
    import jax

    def call(*inputs: Any) -> Any:
        length = max(1, PIECE // size)
        if len(inputs[0]) <= length:
            return function(*inputs)
        compute_one = jax.checkpoint(lambda parts: function(*(part[None] for part in parts))[0])
        return jax.lax.map(compute_one, inputs, batch_size=length)

    return call
