"""How redundant the channels of many networks are, in one chart (paper, Fig. 1c)."""

import itertools
import statistics
from collections.abc import Mapping

from matplotlib.figure import Figure

from keras_lgmsnet.figures.captioned import CaptionedFigure
from keras_lgmsnet.figures.redundancy import ENERGY, Redundancy
from keras_lgmsnet.figures.spectra import redundancy_rows
from keras_lgmsnet.figures.style import COLORS, WIDTH, in_style, plain, style_diagram


def redundancy_chart(
    redundancies: Mapping[str, Mapping[str, Redundancy]],
    networks: Mapping[str, str],
    origin: str,
) -> CaptionedFigure:
    """Return the chart of how many of their channels networks need, a row each.

    Args:
        redundancies: For each label what `figures.channel_redundancy` returned; an empty mapping
            keeps a colour for a label that was not measured.
        networks: For each label its network, in words.
        origin: The sentence that says what features were measured.
    """
    return CaptionedFigure(
        _draw(redundancies),
        f"Bars: share of its channels that a network needs for {100 * ENERGY:.0f} % of the energy "
        "of its features, averaged over its stages; less means more redundancy. Dots: each stage. "
        "Networks have stages of other sizes and number, so the averages are of different things: "
        f"they describe a network, and do not rank it. {origin}",
        redundancy_rows(redundancies, networks),
    )


@in_style
def _draw(redundancies: Mapping[str, Mapping[str, Redundancy]]) -> Figure:
    figure = Figure(figsize=(WIDTH, 0.8 + 0.3 * len(redundancies)), layout="constrained")
    axes = figure.subplots()
    colors = dict(zip(redundancies, itertools.cycle(COLORS), strict=False))
    measured = {label: stages for label, stages in redundancies.items() if stages}
    for place, (label, stages) in enumerate(measured.items()):
        shares = [100 * each.components_needed / each.num_channels for each in stages.values()]
        axes.barh(place, statistics.mean(shares), 0.7, color=colors[label], alpha=0.8)
        axes.plot(
            shares,
            [place] * len(shares),
            "o",
            markersize=4,
            markerfacecolor="white",
            markeredgecolor="black",
            markeredgewidth=0.8,
            clip_on=False,
        )
    axes.set_yticks(range(len(measured)), [plain(label) for label in measured])
    axes.set(xlim=(0, 100), ylim=(len(measured) - 0.4, -0.6))
    axes.set(xlabel=f"Channels needed for {100 * ENERGY:.0f} % of the energy, %")
    style_diagram(axes)
    return figure
