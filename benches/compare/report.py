"""What was measured, as tables in Markdown and as a plot in SVG."""

import statistics
from html import escape

from workloads import TEXT_WORDS

BOUND, BOUND_ALONE, BOUND_PADDED, FASTEMBED = "bound", "bound, one by one", "bound, padded", "fastembed"
# With the 8-bit files of a folder that has exact ones, too, which all the other rows run.
PYTHON_SMALL, VITRINE_SMALL = "python, queue, int8", "vitrine, Embed, int8"
# With the exact files, which OpenVINO computes in bf16 where the processor has it.
VITRINE_OPENVINO = "vitrine, Embed, OpenVINO"
# Who answers the same query again and again.
VITRINE, ECHO = "vitrine", "bare echo"
# The order of the rows. One that was not measured keeps its place.
ROWS = [
    BOUND,
    BOUND_ALONE,
    BOUND_PADDED,
    "python, no batching",
    "python, batching queue",
    FASTEMBED,
    "vitrine, Embed",
    "vitrine, Search",
    PYTHON_SMALL,
    VITRINE_SMALL,
    VITRINE_OPENVINO,
]
# Rows that only some runs have.
OPTIONAL = [PYTHON_SMALL, VITRINE_SMALL, VITRINE_OPENVINO]
OF_TEXTS_ONLY = [BOUND_ALONE, BOUND_PADDED]
COLUMNS = ["", "CPU ms", "of the bound", "a second", "p50 ms, 8 at once", "p50 ms, alone", "worst cosine"]


def rows(workload, measured):
    """The rows of a table or panel; optional ones only where they were measured."""
    kind = [row for row in ROWS if workload in TEXT_WORDS or row not in OF_TEXTS_ONLY]
    return [row for row in kind if row in measured or row not in OPTIONAL]


def median(measured, what):
    """The median over the rounds; None if it was not measured."""
    values = [each[what] for each in measured if what in each]
    return statistics.median(values) if values else None


def ratio(measured, bound):
    """How many times the bound's cost, each round against its own bound."""
    pairs = zip(measured, bound, strict=False)
    values = [each["cpu_seconds"] / least["cpu_seconds"] for each, least in pairs]
    return statistics.median(values) if values else None


def tables(result):
    """Everything that was measured, for people."""
    lines = []
    for model in result["models"]:
        lines += [f"## {model['name']}", ""]
        for workload, measured in model["rounds"].items():
            lines += [heading(workload, result["workloads"][workload]), "", row(COLUMNS), row(["---"] * len(COLUMNS))]
            for name in rows(workload, measured):
                rounds = measured.get(name, [])
                cpu_seconds = median(rounds, "cpu_seconds")
                cells = [
                    number(cpu_seconds and cpu_seconds * 1000, 2),
                    number(ratio(rounds, measured[BOUND]), 2),
                    number(median(rounds, "items_per_second"), 1),
                    number(median(rounds, "p50_ms"), 1),
                    number(median(rounds, "p50_alone_ms"), 1),
                    number(model["cosine_worst"][workload].get(name), 4),
                ]
                lines.append(row([name, *cells]))
            lines.append("")
        lines += [*remarks(model), ""]
    return "\n".join([*lines, *origin(result["machine"])])


def heading(workload, described):
    if "words" in described:
        return f"{workload}: {described['count']} of {described['words']:.1f} words"
    return f"{workload}: {described['count']} JPEG pictures of {described['bytes'] / 1000:.0f} kB"


def remarks(model):
    """What has no place in the tables."""
    for workload, measured in model["rounds"].items():
        parts = measured[BOUND][0]["parts"]
        if len(parts) > 1:
            costs = [statistics.median(each["parts"][part] for each in measured[BOUND]) * 1000 for part in parts]
            shown = ", ".join(f"{part} {cost:.2f}" for part, cost in zip(parts, costs, strict=True))
            yield f"Bound of {workload}, CPU ms: {shown}."
    yield f"Settings of the bound: {settings(model['bound'])}."
    yield f"Padded texts have {model['bound']['padded_tokens']} tokens."
    if model["fastembed"]:
        yield f"Settings of fastembed: {settings(model['fastembed'])}."
    for name, reason in model["not_measured"].items():
        yield f"Not measured: {name}: {reason}."
    for what, measured in model["cached"].items():
        told = []
        for name in (VITRINE, ECHO):
            cpu, p50 = median(measured[name], "cpu_seconds") * 1000, median(measured[name], "p50_ms")
            told.append(f"{name} p50 {p50:.2f} ms, CPU {cpu:.3f} ms")
        times = ratio(measured[VITRINE], measured[ECHO])
        yield f"The same {what} query again: {'; '.join(told)}. Vitrine's CPU is {times:.2f} times that of the echo."
    ready = ", ".join(f"{name} {statistics.median(times):.2f} s" for name, times in model["ready_seconds"].items())
    yield f"From the start to the first answer: {ready}."


def settings(candidate):
    return "; ".join(f"{part}: {setting}" for part, setting in candidate["settings"].items())


def origin(machine):
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield f"{machine['cores']} cores, {machine['processor']}; {versions}."
    yield f"Medians of {machine['rounds']} rounds of {machine['seconds_per_round']:g} s."
    share = f"Other programs took {machine['others_share']:.0%} of the machine meanwhile"
    yield f"{share}: too much, do not write these figures down." if machine["busy"] else f"{share}."


def row(cells):
    return f"| {' | '.join(cells)} |"


def number(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"


# Of the plot, in pixels.
WIDTH, LABEL, VALUE, BAR, GAP = 880, 190, 140, 18, 6
PANEL_TITLE, MARGIN = 44, 24
PART_COLOURS = {"decode": "#33658a", "resize": "#86bbd8", "normalise": "#c9dde8", "tower": "#758e4f"}
COLOURS = {"vitrine": "#f26419", "python": "#8d8d99", "fastembed": "#8d8d99"}
PADDED_COLOUR = "#b9c7a2"
TEXT_COLOUR, LINE_COLOUR = "#222222", "#222222"


def plot(result):
    """CPU per item: one panel for each model and workload, the bound split into its parts and drawn on as a line."""
    body, y = [legend(MARGIN)], MARGIN + 30
    for model in result["models"]:
        for workload, measured in model["rounds"].items():
            names = rows(workload, measured)
            drawn, y = panel(f"{model['name']}, {workload}: CPU ms per item", names, measured, y)
            body += drawn
    if result["machine"]["busy"]:
        body.append(text(LABEL, y + 14, "Measured on a busy machine."))
        y += 20
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + MARGIN}" font-family="sans-serif"'
    background = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([f'{head} font-size="13">', background, *body, "</svg>", ""])


def legend(y):
    drawn, x = [], LABEL
    for part, colour in PART_COLOURS.items():
        drawn += [bar(x, y, 12, 12, colour), text(x + 18, y + 11, part)]
        x += 100
    return "\n".join(drawn)


def panel(title, names, measured, y):
    """The panel's elements, and where the next one begins."""
    costs = {name: median(measured.get(name, []), "cpu_seconds") for name in names}
    scale = (WIDTH - LABEL - VALUE) / max(cost for cost in costs.values() if cost is not None)
    drawn = [text(LABEL, y + 22, title, weight="bold")]
    top = y = y + PANEL_TITLE - GAP
    for name, cost in costs.items():
        drawn.append(text(LABEL - 8, y + 14, name, anchor="end"))
        if cost is None:
            drawn.append(text(LABEL + 6, y + 14, "not measured"))
        else:
            drawn += bars(name, measured[name], cost * scale, y)
            times = "" if name == BOUND else f"  ({ratio(measured[name], measured[BOUND]):.2f}×)"
            drawn.append(text(LABEL + cost * scale + 6, y + 14, f"{cost * 1000:.2f}{times}"))
        y += BAR + GAP
    x = LABEL + costs[BOUND] * scale
    drawn.append(f'<path d="M{x:.1f} {top}V{y - GAP}" stroke="{LINE_COLOUR}" stroke-dasharray="3 3"/>')
    return drawn, y


def bars(name, rounds, length, y):
    """One bar; that of the bound in its parts, by their share."""
    if name in (BOUND_ALONE, BOUND_PADDED):
        return [bar(LABEL, y, length, BAR, PADDED_COLOUR)]
    if name != BOUND:
        return [bar(LABEL, y, length, BAR, COLOURS[name.partition(",")[0]])]
    shares = {part: statistics.median(each["parts"][part] for each in rounds) for part in rounds[0]["parts"]}
    whole, x, drawn = sum(shares.values()), LABEL, []
    for part, share in shares.items():
        drawn.append(bar(x, y, length * share / whole, BAR, PART_COLOURS[part]))
        x += length * share / whole
    return drawn


def bar(x, y, width, height, colour):
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{colour}"/>'


def text(x, y, content, anchor="start", weight="normal"):
    style = f'fill="{TEXT_COLOUR}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y}" {style}>{escape(content)}</text>'
