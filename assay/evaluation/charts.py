"""Small inline SVG charts: no library, no script, no font. Colours are CSS variables (--c1 to --c6), so one picture
serves light and dark.

Equal numbers give equal text. All words are escaped here; the result is safe to place into HTML as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite, log2, log10

WIDTH, HEIGHT = 400, 236
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 26, 36
MAX_POINTS = 800
"""Longer lines are drawn from the means of equal bins."""
FEW = 40
"""Up to so many separate estimates have a dot and a whisker each."""

Number = float | None


@dataclass(frozen=True)
class Line:
    """One series: y over x, with an optional band. None breaks the line."""

    name: str
    x: Sequence[float]
    y: Sequence[Number]
    color: int
    """1 to 6."""
    low: Sequence[Number] | None = None
    high: Sequence[Number] | None = None
    dashed: bool = False
    dots: bool = True
    points: bool = False
    """Separate estimates: few of them are dots with whiskers and no line; many are a thin line in a band."""


@dataclass(frozen=True)
class Axis:
    """Scale from data to pixels, and its ticks."""

    start: float
    stop: float
    ticks: tuple[float, ...]
    pixels: tuple[float, float]
    log: bool = False

    def place(self, value: float) -> float:
        a, b, v = (log2(self.start), log2(self.stop), log2(value)) if self.log else (self.start, self.stop, value)
        share = (v - a) / (b - a) if b > a else 0.5
        return self.pixels[0] + share * (self.pixels[1] - self.pixels[0])


def line_chart(
    lines: Sequence[Line],
    *,
    label: str,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    x_ticks: Sequence[float] | None = None,
    x_log: bool = False,
    boundaries: Sequence[float] = (),
) -> str:
    """Lines with bands. `label`: what a person who cannot see it is told. `boundaries`: hairlines at these x."""
    lines = [thinned(line) for line in lines]
    xs = [x for line in lines for x in line.x]
    ys = [
        v
        for line in lines
        for series in (line.y, line.low or (), line.high or ())
        for v in series
        if v is not None and isfinite(v)
    ]
    if not xs or not ys:
        return ""
    x_axis = Axis(
        min(xs),
        max(xs),
        tuple(x_ticks or nice_ticks(min(xs), max(xs), 6, whole=True)),
        (LEFT + 6, WIDTH - RIGHT - 6),
        x_log,
    )
    y_axis = value_axis(ys, y_range)
    parts = [frame(x_axis, y_axis, x_label, y_label)]
    parts += [
        f'<path class="hair" d="M{number(x_axis.place(x))} {TOP}V{HEIGHT - BOTTOM}"/>'
        for x in boundaries
        if x_axis.start < x < x_axis.stop
    ]
    parts += [band(line, x_axis, y_axis) for line in lines if line.low and line.high]
    parts += [curve(line, x_axis, y_axis) for line in lines]
    return wrap(label, parts)


def stacked_bars(
    categories: Sequence[str],
    series: Sequence[tuple[str, Sequence[float], int]],
    *,
    label: str,
    x_label: str,
    y_label: str,
) -> str:
    """One bar per category, its parts stacked in the order of `series` (name, values, colour)."""
    totals = [sum(values[i] for _, values, _ in series) for i in range(len(categories))]
    if not categories or max(totals) <= 0:
        return ""
    y_axis = value_axis([0.0, max(totals)], None)
    span = (WIDTH - RIGHT - LEFT) / len(categories)
    x_axis = Axis(-0.5, len(categories) - 0.5, (), (LEFT, WIDTH - RIGHT))
    parts = [frame(x_axis, y_axis, x_label, y_label)]
    every = ceil(len(categories) / 12)
    for i, category in enumerate(categories):
        centre, width, base = x_axis.place(i), min(span * 0.7, 44), 0.0
        for name, values, color in series:
            if values[i] > 0:
                top, bottom = y_axis.place(base + values[i]), y_axis.place(base)
                parts.append(
                    f'<rect class="bar f{color}" x="{number(centre - width / 2)}" y="{number(top)}" '
                    f'width="{number(width)}" height="{number(bottom - top)}">'
                    f"<title>{escape(name)}, {escape(x_label)} {escape(category)}: {short(values[i])}</title></rect>"
                )
                base += values[i]
        if i % every == 0:
            parts.append(
                f'<text class="tick" x="{number(centre)}" y="{HEIGHT - BOTTOM + 15}" '
                f'text-anchor="middle">{escape(category)}</text>'
            )
    return wrap(label, parts)


def wrap(label: str, parts: Sequence[str]) -> str:
    """Parts of a picture as one SVG; label: what it says to those who cannot see it."""
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label, quote=True)}">'
    return f"{head}{''.join(parts)}</svg>"


def words(kind: str, x: float, y: float, anchor: str, text: str) -> str:
    """A text element; `kind` is its class."""
    return f'<text class="{kind}" x="{number(x)}" y="{number(y)}" text-anchor="{anchor}">{escape(text)}</text>'


def frame(x_axis: Axis, y_axis: Axis, x_label: str, y_label: str) -> str:
    """Grid, ticks and the two axis labels."""
    parts = []
    for tick in y_axis.ticks:
        y = y_axis.place(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {number(y)}H{WIDTH - RIGHT}"/>')
        parts.append(words("tick", LEFT - 7, y + 4, "end", short(tick)))
    for tick in x_axis.ticks:
        parts.append(words("tick", x_axis.place(tick), HEIGHT - BOTTOM + 15, "middle", short(tick)))
    parts.append(words("axis", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle", x_label))
    parts.append(words("axis", 0, 11, "start", y_label))
    return "".join(parts)


def curve(line: Line, x_axis: Axis, y_axis: Axis) -> str:
    """A line as an SVG path, broken where it has no value, with a point at each value."""
    points = [(x, y) for x, y in zip(line.x, line.y, strict=True) if _drawable(y)]
    path, pen = [], "M"
    for x, y in zip(line.x, line.y, strict=True):
        if not _drawable(y):
            pen = "M"
            continue
        path.append(f"{pen}{number(x_axis.place(x))} {number(y_axis.place(y or 0.0))}")
        pen = "L"
    apart = line.points and len(points) <= FEW
    style = f'class="line s{line.color}{" dashed" if line.dashed else ""}{" thin" if line.points else ""}"'
    drawn = f'<path {style} d="{"".join(path)}"/>' if path and not apart else ""
    if line.dots and len(points) <= 60:
        for x, y in points:
            place = f'cx="{number(x_axis.place(x))}" cy="{number(y_axis.place(y or 0.0))}"'
            title = f"{escape(line.name)}: {short(y or 0.0)} at {short(x)}"
            drawn += f'<circle class="dot f{line.color}" {place} r="{3.4 if apart else 2.6}"><title>{title}</title></circle>'
    return drawn


def band(line: Line, x_axis: Axis, y_axis: Axis) -> str:
    """Area between low and high; whiskers for a single point, and for a few separate ones."""
    low, high = line.low or (), line.high or ()
    ends = [
        (x, a, b)
        for x, a, b in zip(line.x, low, high, strict=True)
        if a is not None and b is not None and isfinite(a) and isfinite(b)
    ]
    if not ends:
        return ""
    upper = [f"{number(x_axis.place(x))} {number(y_axis.place(b))}" for x, _, b in ends]
    lower = [f"{number(x_axis.place(x))} {number(y_axis.place(a))}" for x, a, _ in reversed(ends)]
    if len(ends) == 1 or (line.points and len(ends) <= FEW):
        pairs = zip(upper, reversed(lower), strict=True)
        return f'<path class="whisker s{line.color}" d="{"".join(f"M{a}L{b}" for a, b in pairs)}"/>'
    return f'<path class="band f{line.color}" d="M{"L".join([*upper, *lower])}Z"/>'


def value_axis(values: Sequence[float], given: tuple[float, float] | None) -> Axis:
    """Vertical axis: the given range, or one that starts at 0 where that does not flatten the picture."""
    low, high = given if given else (min(values), max(values))
    if given is None:
        if low > 0 and low < 0.6 * high:
            low = 0.0
        if high == low:
            low, high = (low - abs(low) * 0.1, high + abs(high) * 0.1) if high else (0.0, 1.0)
        ticks = nice_ticks(low, high, 5)
        step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
        low, high = min(low, floor(low / step + 1e-9) * step), max(high, ceil(high / step - 1e-9) * step)
    return Axis(low, high, tuple(nice_ticks(low, high, 5)), (HEIGHT - BOTTOM, TOP))


def nice_ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Round numbers that divide the range into about so many parts."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** floor(log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * (1 - 1e-9))
    if whole:
        step = max(1.0, ceil(step))
    first = ceil(low / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, floor(high / step + 1e-9) + 1)]


def thinned(line: Line, limit: int = MAX_POINTS) -> Line:
    """At most `limit` points: means of equal bins."""
    size = ceil(len(line.x) / limit)
    if size <= 1:
        return line

    def bins(values: Sequence[Number]) -> list[Number]:
        cut = [[v for v in values[i : i + size] if _drawable(v)] for i in range(0, len(values), size)]
        return [sum(v for v in part if v is not None) / len(part) if part else None for part in cut]

    x = [v or 0.0 for v in bins(line.x)]
    return Line(
        line.name,
        x,
        bins(line.y),
        line.color,
        bins(line.low) if line.low else None,
        bins(line.high) if line.high else None,
        line.dashed,
        line.dots,
        line.points,
    )


def short(value: float) -> str:
    """Three to four significant digits, as a person writes them."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000 or abs(value) < 1e-4:
        mantissa, exponent = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else (f"{value:.0f}", "")
        return f"{mantissa}e{int(exponent)}" if exponent else f"{value:,.0f}"
    return f"{value:,.4g}"


def number(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def _drawable(value: Number) -> bool:
    return value is not None and isfinite(value)


@dataclass(frozen=True)
class Stop:
    """A point of a path, with its intervals as (low, high)."""

    name: str
    x: float
    y: float
    x_ends: tuple[Number, Number] = (None, None)
    y_ends: tuple[Number, Number] = (None, None)


def path_chart(stops: Sequence[Stop], color: int, *, label: str, x_label: str, y_label: str) -> str:
    """One quantity against another, the points connected in their order: the first is a ring, the last the largest dot. Names stand
    where they do not cover each other; up to FEW points have their intervals as thin crosses."""
    stops = [stop for stop in stops if isfinite(stop.x) and isfinite(stop.y)]
    if not stops:
        return ""
    x_axis = _padded(_reach((s.x, *s.x_ends) for s in stops))
    y_axis = value_axis(_reach((s.y, *s.y_ends) for s in stops), None)
    places = [(x_axis.place(stop.x), y_axis.place(stop.y)) for stop in stops]
    parts = [frame(x_axis, y_axis, x_label, y_label)]
    for stop, (x, y) in zip(stops, places, strict=True) if len(stops) <= FEW else ():
        across, along = map(x_axis.place, _reach([stop.x_ends])), map(y_axis.place, _reach([stop.y_ends]))
        lines = (f"M{'L'.join(f'{number(v)} {number(y)}' for v in across)}", f"M{'L'.join(f'{number(x)} {number(v)}' for v in along)}")
        parts += [f'<path class="cross s{color}" d="{line}"/>' for line in lines if "L" in line]
    parts.append(f'<path class="line s{color}" d="M{"L".join(f"{number(x)} {number(y)}" for x, y in places)}"/>')
    last = len(stops) - 1
    for i, (stop, (x, y)) in enumerate(zip(stops, places, strict=True)):
        kind, size = (f"ring s{color}", 3.6) if i == 0 < last else (f"dot f{color}", 4.6 if i == last else 2.6)
        title = f"{escape(stop.name)}: {short(stop.y)} at {short(stop.x)}"
        parts.append(f'<circle class="{kind}" cx="{number(x)}" cy="{number(y)}" r="{size}"><title>{title}</title></circle>')
    named: list[tuple[float, float]] = []
    for i in dict.fromkeys((0, last, *range(last))):
        x, y = places[i]
        if all(abs(x - a) > 6.5 * len(stops[i].name) or abs(y - b) > 13 for a, b in named):
            named.append((x, y))
            left = x > WIDTH - RIGHT - 7 * len(stops[i].name)
            parts.append(words("name", x - 7 if left else x + 7, y - 6, "end" if left else "start", stops[i].name))
    return wrap(label, parts)


def _reach(values: Iterable[tuple[Number, ...]]) -> list[float]:
    return [v for each in values for v in each if v is not None and isfinite(v)]


def _padded(values: Sequence[float]) -> Axis:
    """A horizontal axis about the values."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or abs(low) * 0.1 or 1.0
    low, high = max(low - margin, 0.0) if low >= 0 else low - margin, high + margin
    return Axis(low, high, tuple(nice_ticks(low, high, 6)), (LEFT + 6, WIDTH - RIGHT - 6))
