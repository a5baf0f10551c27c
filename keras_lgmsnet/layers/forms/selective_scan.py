"""The selective scan: a linear recurrence over tokens whose coefficients depend on the tokens.

Every form takes and returns the same:

    values (batch, tokens, channels), steps (batch, tokens, channels),
    writes (batch, tokens, states), reads (batch, tokens, states), rates (states, channels)

    h_t[n, c] = exp(steps_t[c] · rates[n, c]) · h_t-1[n, c] + steps_t[c] · writes_t[n] · values_t[c]
    outputs_t[c] = Σ_n reads_t[n] · h_t[n, c]

The tokens are cut into chunks, about as many as each has tokens. All chunks are walked through side
by side: first from states of zero, which tells how each chunk's last state depends on the first; a
short scan over the chunks then tells with which state each begins; and from those all are walked
through again, now for the outputs. Never is anything divided by a product of decays, which
underflows.

For the gradient there are kept, beside the inputs, the states at the beginning of every piece of a
chunk, of about as many tokens as a chunk has pieces: as many numbers as a few activations. The
states between are computed again, of one piece at a time.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_lgmsnet.layers.forms import choose, form

Scan = Callable[..., Any]
# Of a function (carry, items) → (carry, outputs), a first carry, and items whose first axis is
# walked along, perhaps from its end: it returns the last carry, and the outputs, stacked. How many
# of these there are must be said of a walk over pieces.
Walk = Callable[..., tuple[Any, Any]]


def choose_selective_scan(dtype: str) -> Scan:
    """Return the form for sequences of the voxels of volumes."""
    return choose("selective scan", rank=3, dtype=dtype)


def _exp_of_product(x: Any, y: Any) -> Any:
    return ops.exp(x * y)


def _add_product(total: Any, x: Any, y: Any) -> Any:
    return total + x * y


@dataclasses.dataclass(frozen=True)
class Recurrence:
    """The mathematics of the scan and of its gradient, for some way to walk along an axis.

    Args:
        walk: Along the pieces of the chunks.
        walk_piece: Along the tokens of a piece.
        exp_of_product: Of two tensors that broadcast.
        add_product: To a tensor, which nothing needs afterwards, of two that broadcast to it.
    """

    walk: Walk
    walk_piece: Walk
    exp_of_product: Callable[[Any, Any], Any] = _exp_of_product
    add_product: Callable[[Any, Any, Any], Any] = _add_product

    def scan(
        self, values: Any, steps: Any, writes: Any, reads: Any, rates: Any
    ) -> tuple[Any, tuple[Any, Any]]:
        """Return the outputs; and the states before each piece, and the decays of the chunks."""
        tokens = values.shape[1]
        step, written, write_at, read_at = (
            _cut(x, tokens) for x in (steps, steps * values, writes, reads)
        )
        decays = self.exp_of_product(_of_states(ops.sum(step, axis=(0, 1))), rates)

        def end(state: Any, token: Any) -> tuple[Any, Any]:
            return self._advance(state, token, rates)[0], ()

        def end_piece(state: Any, piece: Any) -> tuple[Any, Any]:
            return self.walk_piece(end, state, piece)

        def read(state: Any, token: Any) -> tuple[Any, Any]:
            *token, read_at = token
            state, _ = self._advance(state, token, rates)
            return state, _matrix_product(read_at[:, :, None], state, 2)

        def read_piece(state: Any, piece: Any) -> tuple[Any, Any]:
            after, outputs = self.walk_piece(read, state, piece)
            return after, (outputs, state)

        items = [step, written, write_at]
        ends, _ = self.walk(end_piece, ops.zeros_like(decays), items)
        starts = chain(decays, ends)
        _, (outputs, states) = self.walk(read_piece, starts, [*items, read_at], outputs=2)
        return _join(outputs, tokens), (states, decays)

    def gradient(
        self, inputs: Sequence[Any], kept: Sequence[Any], upstream: Any
    ) -> tuple[Any, Any, Any, Any, Any]:
        """Return the gradients of the five inputs.

        With g the gradient of the outputs, that of the states is reads_t · g_t + r_t+1. What it
        leaves for the state before, r_t, is exp(steps_t · rates) times that: the same recurrence,
        from the end.

        Args:
            inputs: Those of `scan`.
            kept: What it returned besides the outputs.
            upstream: The gradient of the outputs.
        """
        values, steps, writes, reads, rates = inputs
        states, decays = kept
        tokens = values.shape[1]
        step, written, write_at, read_at, gradient = (
            _cut(x, tokens) for x in (steps, steps * values, writes, reads, upstream)
        )

        def recede(reached: Any, token: Any) -> tuple[Any, Any]:
            step, read_at, gradient = token
            total = self.add_product(reached, read_at[..., None], _of_states(gradient))
            return total * self.exp_of_product(_of_states(step), rates), ()

        def recede_piece(reached: Any, piece: Any) -> tuple[Any, Any]:
            return self.walk_piece(recede, reached, piece, reverse=True)

        def advance(state: Any, token: Any) -> tuple[Any, Any]:
            after, decay = self._advance(state, token, rates)
            return after, (state, after, decay)

        def differentiate(carry: Any, token: Any) -> tuple[Any, Any]:
            reached, for_rates = carry
            step, written, write_at, read_at, gradient, before, after, decay = token
            total = self.add_product(reached, read_at[..., None], _of_states(gradient))
            reached = total * decay
            for_exponent = reached * before
            for_rates = self.add_product(for_rates, _of_states(step), for_exponent)
            return (reached, for_rates), (
                _matrix_product(after, gradient[..., None], 3),
                _matrix_product(total, written[..., None], 3),
                _matrix_product(write_at[:, :, None], total, 2),
                ops.sum(for_exponent * rates, axis=2),
            )

        def differentiate_piece(carry: Any, piece: Any) -> tuple[Any, Any]:
            *tokens, start = piece
            _, between = self.walk_piece(advance, start, tokens[:3])
            return self.walk_piece(differentiate, carry, [*tokens, *between], reverse=True)

        ends, _ = self.walk(
            recede_piece, ops.zeros_like(decays), [step, read_at, gradient], reverse=True
        )
        (_, for_rates), found = self.walk(
            differentiate_piece,
            (chain(decays, ends, reverse=True), ops.zeros_like(decays)),
            [step, written, write_at, read_at, gradient, states],
            reverse=True,
            outputs=4,
        )
        for_reads, for_writes, for_written, for_exponent = (_join(x, tokens) for x in found)
        return (
            for_written * steps,
            for_written * values + for_exponent,
            for_writes,
            for_reads,
            ops.sum(for_rates, axis=(0, 1)),
        )

    def _advance(self, state: Any, token: Any, rates: Any) -> tuple[Any, Any]:
        """Return the state after a token, and the decay."""
        step, written, write_at = token
        decay = self.exp_of_product(_of_states(step), rates)
        return self.add_product(decay * state, write_at[..., None], _of_states(written)), decay


def _of_states(x: Any) -> Any:
    """Return `(batch, chunks, channels)` for all states alike."""
    return x[:, :, None]


def _matrix_product(x: Any, y: Any, axis: int) -> Any:
    return ops.squeeze(ops.matmul(x, y), axis)


def _side(tokens: int) -> int:
    """Return how many pieces a chunk has, and a piece tokens."""
    return max(round(tokens**0.25), 1)


def _cut(x: Any, tokens: int) -> Any:
    """Return `(pieces, tokens of a piece, batch, chunks, features)`.

    Zeros fill up the last chunk: steps of zero change no state and write nothing.
    """
    side = _side(tokens)
    missing = -tokens % side**2
    if missing:
        x = ops.pad(x, [(0, 0), (0, missing), (0, 0)])
    x = ops.reshape(x, (-1, (tokens + missing) // side**2, side, side, x.shape[-1]))
    return ops.transpose(x, (2, 3, 0, 1, 4))


def _join(x: Any, tokens: int) -> Any:
    """Undo `_cut`."""
    pieces, length, _, chunks, features = x.shape
    x = ops.transpose(x, (2, 3, 0, 1, 4))
    return ops.reshape(x, (-1, chunks * pieces * length, features))[:, :tokens]


def chain(decays: Any, ends: Any, reverse: bool = False) -> Any:
    """Return the states that chunks begin with.

    Args:
        decays: Of a whole chunk, `(batch, chunks, states, channels)`.
        ends: The states that chunks would end with if they began with zeros; the same shape.
        reverse: Whether the last chunk comes first.
    """
    chunks, distance = ends.shape[1], 1

    def move(x: Any, distance: int) -> Any:
        none = ops.zeros_like(x[:, :distance])
        parts = [x[:, distance:], none] if reverse else [none, x[:, : chunks - distance]]
        return ops.concatenate(parts, axis=1)

    while distance < chunks:
        ends = ends + decays * move(ends, distance)
        decays = decays * move(decays, distance)
        distance *= 2
    return move(ends, 1)


# === Forms ===


@form("selective scan", "looped", backends=("torch",), made=True)
@functools.cache
def looped_scan() -> Scan:
    """Return the form whose loops are Python's, and whose operations write in place.

    It is defined in a function, once, since PyTorch is imported only where it is the backend.
    """
    import torch

    recurrence = Recurrence(
        _walk_in_python,
        _walk_in_python,
        lambda x, y: torch.mul(x, y).exp_(),
        lambda total, x, y: total.addcmul_(x, y),
    )

    class SelectiveScan(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, *inputs: Any) -> Any:
            outputs, kept = recurrence.scan(*inputs)
            context.save_for_backward(*inputs, *kept)
            return outputs

        @staticmethod
        def backward(context: Any, upstream: Any) -> Any:
            *inputs, states, decays = context.saved_tensors
            return recurrence.gradient(inputs, (states, decays), upstream)

    def scan(*inputs: Any) -> Any:
        # Exporters of PyTorch know no autograd functions.
        if torch.is_grad_enabled():
            return SelectiveScan.apply(*inputs)
        return recurrence.scan(*inputs)[0]

    return scan


@form("selective scan", "looped in XLA", backends=("jax",), made=True)
@functools.cache
def scan_looped_in_xla() -> Scan:
    """Return the form whose loops XLA compiles. Forward-mode derivatives are not defined."""
    import jax

    def walk(
        step: Any, carry: Any, items: Sequence[Any], reverse: bool = False, outputs: int = 0
    ) -> tuple[Any, Any]:
        return jax.lax.scan(step, carry, items, reverse=reverse)

    recurrence = Recurrence(walk, walk)

    @jax.custom_vjp
    def scan(*inputs: Any) -> Any:
        return recurrence.scan(*inputs)[0]

    def forward(*inputs: Any) -> Any:
        outputs, kept = recurrence.scan(*inputs)
        return outputs, (inputs, kept)

    def backward(saved: Any, upstream: Any) -> Any:
        inputs, kept = saved
        return recurrence.gradient(inputs, kept, upstream)

    scan.defvjp(forward, backward)
    return scan


@form("selective scan", "looped over pieces", backends=("tensorflow",), made=True)
@functools.cache
def scan_looped_over_pieces() -> Scan:
    """Return the form whose loop is TensorFlow's from piece to piece, but not within them."""
    recurrence = Recurrence(_walk_in_tensorflow, _walk_in_python)

    @ops.custom_gradient
    def scan(*inputs: Any) -> Any:
        outputs, kept = recurrence.scan(*inputs)
        return outputs, lambda upstream: recurrence.gradient(inputs, kept, upstream)

    return scan


def _walk_in_python(
    step: Any, carry: Any, items: Sequence[Any], reverse: bool = False, outputs: int = 0
) -> tuple[Any, Any]:
    places = range(items[0].shape[0])
    parts = [ops.unstack(item) for item in items]
    found = []
    for place in reversed(places) if reverse else places:
        carry, output = step(carry, [part[place] for part in parts])
        found.append(output)
    if reverse:
        found.reverse()
    return carry, keras.tree.map_structure(lambda *parts: ops.stack(parts), *found)


def _walk_in_tensorflow(
    step: Any, carry: Any, items: Sequence[Any], reverse: bool = False, outputs: int = 0
) -> tuple[Any, Any]:
    import tensorflow as tf

    length = items[0].shape[0]
    shapes: list[Any] = [None] * outputs

    def advance(place: Any, carry: Any, arrays: Any) -> Any:
        carry, found = step(carry, [item[place] for item in items])
        shapes[:] = [x.shape for x in found]
        arrays = [array.write(place, x) for array, x in zip(arrays, found, strict=True)]
        return place + (-1 if reverse else 1), carry, arrays

    arrays = [tf.TensorArray(items[0].dtype, length, infer_shape=False) for _ in range(outputs)]
    _, carry, arrays = tf.while_loop(
        lambda place, *_: place >= 0 if reverse else place < length,
        advance,
        (length - 1 if reverse else 0, carry, arrays),
        parallel_iterations=1,
        maximum_iterations=length,
    )
    stacked = [array.stack() for array in arrays]
    for x, shape in zip(stacked, shapes, strict=True):
        x.set_shape((length, *shape))
    return carry, stacked
