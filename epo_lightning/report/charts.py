"""Line charts as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from epo_lightning.report.curves import Curve, Line
from epo_lightning.report.statistics import Array
from epo_lightning.report.svg import (
    BOTTOM,
    COLORS,
    DASHES,
    LEFT,
    MASTER_INK,
    RIGHT,
    TOP,
    WIDTH,
    agent_ink,
    picture,
    text,
)

_HEIGHT = 280
_FEW_DOTS = 20
_WIDEST = 6
"""Most characters of a number beside an axis."""
_LINES = 5.0
"""Of so many runs each line may be opaque; of more they are fainter, or they would hide the means."""


@dataclass(frozen=True)
class Plotted:
    """A curve, or dots, and how it is drawn."""

    label: str
    curve: Curve
    style: int
    dots: bool = False

    @property
    def color(self) -> str:
        """Of its style."""
        return COLORS[self.style % len(COLORS)]

    @property
    def dash(self) -> str:
        """Of its style."""
        return DASHES[self.style % len(DASHES)]


def chart(curves: Sequence[Plotted], xlabel: str, ylabel: str, left: float = 0.0) -> str:
    """Lines: every run thin, means thick with their intervals as bands; the x axis begins at `left`."""
    runs = [line for plotted in curves for line in plotted.curve.runs]
    lines = [*runs, *(plotted.curve.mean for plotted in curves if plotted.curve.mean is not None)]
    x, y = np.concatenate([line.x for line in lines]), np.concatenate([line.y for line in lines])
    frame = _Frame(left, float(x.max()), float(y.min()), float(y.max()))
    parts, opacity = [frame.axes(xlabel, ylabel)], min(0.45, _LINES / max(1, len(runs)))
    for plotted in curves:
        curve = plotted.curve
        if curve.mean is not None and curve.low is not None and curve.high is not None:
            outline = frame.points(
                np.concatenate([curve.mean.x, curve.mean.x[::-1]]), np.concatenate([curve.high, curve.low[::-1]])
            )
            parts.append(f'<polygon points="{outline}" fill="{plotted.color}" fill-opacity="0.15"/>')
        parts += [_run(frame, line, plotted, opacity) for line in curve.runs]
    parts += [
        _polyline(frame, p.curve.mean, p.color, f'stroke-width="2.2"{_dashed(p)}')
        for p in curves
        if p.curve.mean is not None and not p.dots
    ]
    return picture(_HEIGHT, f"{ylabel} over {xlabel}", parts)


def agents_chart(
    lines: Mapping[int, Line], agents: int, xlabel: str, ylabel: str, *, log: bool = False, has_master: bool = True
) -> str:
    """A line for each of some agents: the master black and thick, the others from dark to bright.

    Args:
        lines: By the number of the agent; at least one.
        agents: How many there are.
        xlabel: Under the axis.
        ylabel: Beside it.
        log: A logarithmic scale; what is not above 0 is left out.
        has_master: Whether agent 0 is the master.
    """
    shown = {number: _logarithm(line) if log else line for number, line in lines.items()}
    shown = {number: line for number, line in shown.items() if len(line.x)}
    if not shown:
        return ""
    x, y = (np.concatenate([line[axis] for line in shown.values()]) for axis in (0, 1))
    frame = _Frame(0.0, float(x.max()), float(y.min()), float(y.max()))
    parts = [frame.axes(xlabel, ylabel, log=log)]
    for number in sorted(shown, reverse=True):  # the master last, on top
        ink, width = (MASTER_INK, 2.4) if number == 0 and has_master else (agent_ink(number, agents, has_master), 1.0)
        parts.append(_polyline(frame, shown[number], ink, f'stroke-width="{width}"'))
    return picture(_HEIGHT, f"{ylabel} of every agent over {xlabel}", parts)


def _logarithm(line: Line) -> Line:
    positive = line.y > 0
    return Line(line.x[positive], np.log10(line.y[positive]))


def sample(plotted: Plotted) -> str:
    """A short piece of its line, for a legend."""
    mark = f'<line x1="1" y1="6" x2="31" y2="6" stroke="{plotted.color}" stroke-width="3"{_dashed(plotted)}/>'
    if plotted.dots:
        mark = f'<circle cx="16" cy="6" r="3.5" fill="{plotted.color}"/>'
    return f'<svg class="sample" width="32" height="12" viewBox="0 0 32 12" aria-hidden="true">{mark}</svg>'


class _Frame:
    """Where values lie in the picture."""

    def __init__(self, x_low: float, x_high: float, y_low: float, y_high: float) -> None:
        margin = 0.04 * (y_high - y_low) or 0.5 * abs(y_high) or 1.0
        self.x_low, self.x_high = x_low, x_high if x_high > x_low else x_low + 1
        self.y_low, self.y_high = y_low - margin, y_high + margin

    def x(self, value: Array | float) -> Array:
        share = (np.asarray(value) - self.x_low) / (self.x_high - self.x_low)
        return np.asarray(LEFT + share * (WIDTH - LEFT - RIGHT))

    def y(self, value: Array | float) -> Array:
        share = (np.clip(value, self.y_low, self.y_high) - self.y_low) / (self.y_high - self.y_low)
        return np.asarray(_HEIGHT - BOTTOM - share * (_HEIGHT - TOP - BOTTOM))

    def points(self, x: Array, y: Array) -> str:
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(self.x(x), self.y(y), strict=True))

    def axes(self, xlabel: str, ylabel: str, *, log: bool = False) -> str:
        right, bottom = WIDTH - RIGHT, _HEIGHT - BOTTOM
        parts = []
        levels = ticks(self.y_low, self.y_high)
        if log:
            powers = [value for value in levels if value == round(value)]
            levels = powers if len(powers) > 1 else levels
        for value in levels:
            y = float(self.y(value))
            parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#e4e4e4"/>')
            parts.append(text(LEFT - 6, y + 4, _number(float(f"{10**value:.2g}") if log else value), "end"))
        for value in ticks(self.x_low, self.x_high):
            x = float(self.x(value))
            parts.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}" stroke="#888"/>')
            parts.append(text(x, bottom + 17, _number(value), "middle"))
        parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" stroke="#888" fill="none"/>')
        parts.append(text((LEFT + right) / 2, _HEIGHT - 8, xlabel, "middle"))
        middle = (TOP + bottom) / 2
        label = text(0, 0, ylabel, "middle")
        parts.append(f'<g transform="translate(10 {middle:.0f}) rotate(-90)">{label}</g>')
        return "".join(parts)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if (high - low) / (factor * power) <= most)
    return [round(n * step, 12) for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _number(value: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            short, whole = f"{value / size:g}{unit}", f"{value:g}"
            return whole if len(short) > _WIDEST >= len(whole) and "e" not in whole else short  # -1208, not -1.208 k
    told = f"{value:g}"
    if len(told) <= _WIDEST or not value:
        return told
    mantissa, exponent = f"{value:.1e}".split("e")  # 7.9e-4: 0.00079 would reach into the axis' name
    return f"{float(mantissa):g}e{int(exponent)}"


def _run(frame: _Frame, line: Line, plotted: Plotted, opacity: float) -> str:
    if not plotted.dots:
        return _polyline(frame, line, plotted.color, f'stroke-width="0.8" stroke-opacity="{opacity:.2f}"')
    radius = 3 if len(line.x) < _FEW_DOTS else 1.5
    dots = zip(frame.x(line.x), frame.y(line.y), strict=True)
    return "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{plotted.color}"/>' for x, y in dots)


def _polyline(frame: _Frame, line: Line, color: str, looks: str) -> str:
    return f'<polyline points="{frame.points(line.x, line.y)}" fill="none" stroke="{color}" {looks}/>'


def _dashed(plotted: Plotted) -> str:
    return f' stroke-dasharray="{plotted.dash}"' if plotted.dash else ""
