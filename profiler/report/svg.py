"""Small pieces of SVG: elements whose text is escaped, axes with round ticks, labels that do not collide. No data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from profiler.report.numbers import figure

CHARACTER_PX = 6.6
"""Width of a character of the charts' labels (11 px sans-serif), rather too large than too small."""


def element(name: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """`<name attribute="...">children</name>`, everything escaped that is no Markup. In attribute names `_` is `-`, one
    at the end is dropped (`class_`); attributes that are None are left out."""
    given = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    text = "".join(f' {key}="{escape(coordinate(value))}"' for key, value in given)
    inner = Markup("").join(escape(child) for child in children)
    return Markup(f"<{name}{text}>{inner}</{name}>") if inner else Markup(f"<{name}{text}/>")


def coordinate(value: str | float) -> str:
    """A number with one decimal at most: a tenth of a pixel is enough, and files stay small."""
    if isinstance(value, str):
        return value
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def points(pairs: Iterable[tuple[float, float]]) -> str:
    """`x,y x,y ...` for a polyline or polygon."""
    return " ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in pairs)


def dots(pairs: Iterable[tuple[float, float]]) -> str:
    """A path of points without length: round line ends make a dot of each, in ten bytes."""
    return "".join(f"M{coordinate(x)} {coordinate(y)}h0" for x, y in pairs)


@dataclass(frozen=True)
class Scale:
    """Maps figures from `low` to `high` to pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def scale(values: Iterable[float], start: float, end: float, *, from_zero: bool = False, room: float = 0.04) -> Scale:
    """A scale that holds all values with a little room at its ends; `from_zero`: it begins at 0."""
    known = list(values) or [0.0, 1.0]
    low, high = min(known), max(known)
    margin = (high - low) * room or abs(high) * room or 1.0
    return Scale(min(0.0, low) if from_zero else low - margin, high + margin, start, end)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round figures from `low` to `high`, `most` of them or fewer."""
    rough = (high - low) / max(1, most - 1)
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999999)
    first = math.ceil(low / step - 1e-9)
    return [step * count for count in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_texts(values: Sequence[float]) -> list[str]:
    """The ticks as text, all with as many decimals as their distance asks for."""
    step = values[1] - values[0] if len(values) > 1 else abs(values[0]) if values and values[0] else 1.0
    size = math.floor(math.log10(step) + 1e-9)
    largest = max((abs(value) for value in values), default=0.0)
    if largest >= 1e7 or size < -5:
        return [figure(value, 3) for value in values]
    decimals = max(0, -size + (0 if math.isclose(step / 10**size, round(step / 10**size)) else 1))
    return [f"{value:,.{decimals}f}" if value else "0" for value in values]


def x_axis(x: Scale, y: float, top: float, title: str) -> Markup:
    """Ticks, grid lines up to `top`, and the title with its unit, below `y`."""
    places = ticks(x.low, x.high, 8)
    parts = [element("line", class_="grid", x1=x(v), x2=x(v), y1=top, y2=y) for v in places]
    texts = zip(places, tick_texts(places), strict=True)
    parts += [element("text", text, x=x(value), y=y + 14, text_anchor="middle") for value, text in texts]
    parts.append(element("line", class_="axis", x1=x.start, x2=x.end, y1=y, y2=y))
    parts.append(element("text", title, x=(x.start + x.end) / 2, y=y + 30, text_anchor="middle", class_="title"))
    return Markup("").join(parts)


def y_axis(y: Scale, x: float, right: float, title: str) -> Markup:
    """Ticks, grid lines from `x` to `right`, and the title with its unit above the axis."""
    places = ticks(y.low, y.high, 6)
    parts = [element("line", class_="grid", x1=x, x2=right, y1=y(v), y2=y(v)) for v in places]
    texts = zip(places, tick_texts(places), strict=True)
    parts += [element("text", text, x=x - 6, y=y(value) + 4, text_anchor="end") for value, text in texts]
    parts.append(element("line", class_="axis", x1=x, x2=x, y1=y.start, y2=y.end))
    parts.append(element("text", title, x=4, y=min(y.start, y.end) - 10, class_="title"))
    return Markup("").join(parts)


def apart(labels: Iterable[tuple[float, str]], low: float, high: float) -> list[tuple[float, str]]:
    """Those of the centred labels (x, text), most important first, that overlap none before them, kept within
    `low`..`high`."""
    placed: list[tuple[float, float]] = []
    shown = []
    for x, text in labels:
        half = len(text) * CHARACTER_PX / 2 + 2
        middle = min(max(x, low + half), high - half)
        if all(middle + half <= left or middle - half >= right for left, right in placed):
            placed.append((middle - half, middle + half))
            shown.append((middle, text))
    return shown


def shortened(text: str, most: int) -> str:
    """`text`, or its beginning and an ellipsis where it has more than `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def picture(name: str, width: float, height: float, title: str, *parts: str | Markup) -> Markup:
    """A whole SVG that screen readers read as one image with `title`. `name` is its class."""
    return element(
        "svg", element("title", title), *parts,
        class_=f"chart {name}", viewBox=f"0 0 {coordinate(width)} {coordinate(height)}", role="img",
        preserveAspectRatio="xMinYMin meet", style=f"max-width:{coordinate(width)}px",
    )  # fmt: skip
