"""The chart of README from bench/results.json: how many times as fast as pytorch-ood each objective is, by machine."""
import html
import json
import math
import pathlib
import statistics

WIDTH, BAR, GAP, LEFT = 860, 11, 8, 220
COLOURS = ("#2a6f97", "#e07a5f", "#6a994e", "#8d6a9f")


def bars(cells):
    """{objective: (geometric mean, least, most) over shapes and threads} in float32."""
    found = {}
    for c in cells:
        if c.get("type") == "float32" and "pytorch-ood" in c.get("ratio", {}):
            found.setdefault(c["objective"], []).append(c["ratio"]["pytorch-ood"])
    return {k: (math.exp(statistics.fmean(map(math.log, v))), min(v), max(v)) for k, v in found.items()}


def svg(results):
    series = {m if m.endswith(level) else f"{m}, at {level}": bars([c for c in t["cells"] if c.get("level") == level])
              for m, t in results["machines"].items() for level in sorted({c.get("level") for c in t["cells"]})}
    series = {k: v for k, v in series.items() if v}
    names = sorted({n for v in series.values() for n in v}, key=lambda n: -max(v[n][0] for v in series.values() if n in v))
    most = max(x[2] for v in series.values() for x in v.values())
    top = 44 + 18 * len(series)
    scale = lambda value: LEFT + (WIDTH - LEFT - 60) * math.log(max(value, .5) / .5) / math.log(most / .5)
    group = len(series) * BAR + GAP
    bottom = top + len(names) * group
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{bottom + 34}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{bottom + 34}" fill="white"/>',
           '<text x="12" y="20" font-size="14">Forward and backward, times as fast as pytorch-ood 0.4.0: geometric mean over shapes and threads, least to most</text>']
    for i, name in enumerate(series):
        out.append(f'<rect x="12" y="{30 + 18 * i}" width="12" height="12" fill="{COLOURS[i % 4]}"/>'
                   f'<text x="30" y="{40 + 18 * i}">{html.escape(name)}, float32</text>')
    for tick in (1, 2, 5, 10, 20, 50, 100, 200):
        if tick <= most:
            out.append(f'<line x1="{scale(tick):.1f}" y1="{top - 8}" x2="{scale(tick):.1f}" y2="{bottom}" stroke="{"#888" if tick == 1 else "#ddd"}"/>'
                       f'<text x="{scale(tick):.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555">{tick}x</text>')
    for row, name in enumerate(names):
        y = top + row * group
        out.append(f'<text x="{LEFT - 8}" y="{y + group / 2:.1f}" text-anchor="end">{html.escape(name)}</text>')
        for i, values in enumerate(series.values()):
            if name not in values:
                continue
            mean, least, best = values[name]
            at = y + i * BAR
            out.append(f'<rect x="{scale(min(mean, 1)):.1f}" y="{at}" width="{abs(scale(mean) - scale(1)):.1f}" height="{BAR - 2}" fill="{COLOURS[i % 4]}"/>'
                       f'<line x1="{scale(least):.1f}" y1="{at + BAR / 2 - 1}" x2="{scale(best):.1f}" y2="{at + BAR / 2 - 1}" stroke="#333"/>'
                       f'<text x="{scale(best) + 5:.1f}" y="{at + BAR - 2}" font-size="10">{mean:.1f}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def write(results, path):
    if any(bars(t["cells"]) for t in results["machines"].values()):
        pathlib.Path(path).write_text(svg(results))


if __name__ == "__main__":
    here = pathlib.Path(__file__).resolve().parent
    write(json.loads((here / "results.json").read_text()), here / "speed.svg")
