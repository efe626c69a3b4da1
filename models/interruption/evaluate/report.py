"""The figures as Markdown tables, and their place in the model card."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from models.interruption.evaluate import scoring
from models.interruption.evaluate.scoring import Estimate, Scored
from models.interruption.evaluate.trials import SHORT, WORDS

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

TITLES = {
    "ami": "AMI, held-out people, one voice at a time (real, same headsets)",
    "ami, all folds": "AMI, everyone, each by the fold that never met them (real, same headsets)",
    "ami_crosstalk": "AMI, held-out people, others audible in the mix (real)",
    "ami_crosstalk, all folds": "AMI, everyone by folds, others audible in the mix (real)",
    "interview": "Held-out people in video calls, one voice at a time (real, same channels)",
    "recorded": "Held-out speakers and sources, one simulated channel for all (real)",
    WORDS: "Held-out people, single words alone, the same simulated channel (real)",
    "made": "Held-out synthetic voices, the same simulated channel (synthetic)",
    SHORT: "The same voices, single words and short calls alone (synthetic)",
}


def number(value: float, digits: int = 2) -> str:
    return "-" if isnan(value) else f"{value:.{digits}f}"


def spread(estimate: Estimate, digits: int = 2) -> str:
    value, low, high = estimate
    if isnan(value):
        return "-"
    if isnan(low):
        return number(value, digits)
    return f"{number(value, digits)} ({number(low, digits)}-{number(high, digits)})"


def milliseconds(seconds: float) -> str:
    return "-" if isnan(seconds) else f"{seconds * 1000:.0f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def group_row(items: Sequence[Scored]) -> dict[str, Any]:
    positive = [item for item in items if item.trial.positive]
    negative = [item for item in items if not item.trial.positive]
    delays = [item.decided_s for item in positive if item.decided_s is not None]
    return {
        "sources": len({item.trial.source for item in items}),
        "interruptions": len(positive),
        "recall": scoring.rate(
            [item.decided_by(1.0) for item in positive], [item.trial.source for item in positive]
        ),
        "others": len(negative),
        "false_alarms": scoring.rate(
            [item.decided_by(1.0) for item in negative], [item.trial.source for item in negative]
        ),
        "median_delay_s": sorted(delays)[len(delays) // 2] if delays else float("nan"),
    }


def title(name: str) -> str:
    for known, words in sorted(TITLES.items(), key=lambda pair: -len(pair[0])):
        if name.startswith(known):
            return words + name[len(known) :]
    return name


def counted(figures: dict[str, Any]) -> str:
    return (
        f"{figures['interruptions']} interruptions, {figures['others']} others, "
        f"{figures['sources']} speakers or sources"
    )


def ranking_rows(figures: dict[str, Any]) -> list[list[str]]:
    rows = []
    for seconds, row in figures["ranking"].items():
        line = [
            f"{seconds:g} s",
            spread(row["auc"]),
            spread(row["auc_newest"]),
            spread(row["average_precision"]),
        ]
        if "auc_pair" in row:
            line += [
                spread(row["auc_speech_seconds"]),
                spread(row["auc_pair"]),
                number(row["average_precision_speech_seconds"]),
                number(row["average_precision_pair"]),
            ]
        rows.append(line)
    return rows


def ranking(figures: dict[str, Any]) -> str:
    header = ["after onset", "AUC", "AUC of the newest 100 ms", "average precision"]
    if "auc_pair" in next(iter(figures["ranking"].values())):
        header += [
            "floor: AUC of speech seconds",
            "bar: AUC of the pair",
            "floor: AP",
            "bar: AP",
        ]
    return table(header, ranking_rows(figures))


def decisions(figures: dict[str, Any]) -> str:
    kinds = list(next(iter(figures["decisions"].values())))
    rows = []
    for kind in kinds:
        cells = [
            ("recall of interruptions" if kind == "interruption" else f"false alarms: {kind}"),
            str(figures["ever"][kind]["n"]),
        ]
        cells += [spread(of_kind[kind]["rate"]) for of_kind in figures["decisions"].values()]
        rows.append([*cells, spread(figures["ever"][kind]["rate"])])
    times = [f"by {seconds:g} s" for seconds in figures["decisions"]]
    return table(["", "n", *times, "by 2 s"], rows)


def heard_by_vad(figures: dict[str, Any]) -> str:
    """Other sounds among which the client's VAD would have found speech at all."""
    cells = [
        f"{kind} {spread(cell['rate'])} of {cell['n']}"
        for kind, cell in figures["heard_by_vad"].items()
    ]
    return "Only where Silero hears speech for 0.1 s or more, by 1 s: " + "; ".join(cells) + "."


def same_false_alarms(figures: dict[str, Any]) -> str:
    rows = []
    for name, points in figures["same_false_alarms"].items():
        row = [name]
        for point in points.values():
            row.append(f"{number(point.recall)}, {milliseconds(point.median_delay_s)} ms")
        rows.append(row)
    allowed = [
        f"at false alarms <= {allowed}"
        for allowed in next(iter(figures["same_false_alarms"].values()), {})
    ]
    return table(["recall by 1.5 s, median delay", *allowed], rows)


def one_table(name: str, figures: dict[str, Any]) -> str:
    delay, precision = figures["delay_s"], figures["precision"]
    parts = [
        f"### {title(name)}",
        f"{counted(figures)}.",
        ranking(figures),
        f"At the default threshold {figures['threshold']:g}, `min_frames=2`:",
        decisions(figures),
        *([heard_by_vad(figures)] if figures["heard_by_vad"] else []),
        f"Delay from onset to the deciding answer: median {milliseconds(delay['median'])} ms, "
        f"90th percentile {milliseconds(delay['p90'])} ms. Precision by 1 s: "
        f"{number(precision['at_base_rate'])} at this table's base rate of "
        f"{number(precision['base_rate'])}; {number(precision['at_half'])} if half, "
        f"{number(precision['at_fifth'])} if a fifth of all onsets were interruptions. "
        f"Brier score of the newest 100 ms at 1 s: {number(figures['brier'], 3)}. Fires on the "
        f"room before the onset in {number(figures['before_onset'])} of all.",
    ]
    if figures["same_false_alarms"]:
        parts += [
            "At equal false alarms (each threshold chosen on these very clips, so all rows are "
            "optimistic in the same way):",
            same_false_alarms(figures),
        ]
    return "\n\n".join(parts)


def worse_lines(tables: dict[str, Any]) -> str:
    rows = []
    for name, figures in tables.items():
        if name in TITLES and name not in ("ami", "interview", "recorded", "made"):
            continue
        at_1_s = figures["decisions"][1.0]
        false_alarms = [
            f"{kind} {number(cell['rate'][0])}"
            for kind, cell in at_1_s.items()
            if kind != "interruption"
        ]
        rows.append(
            [
                name,
                spread(figures["ranking"][0.6]["auc"]),
                spread(figures["ranking"][1.2]["auc"]),
                number(at_1_s["interruption"]["rate"][0]),
                ", ".join(false_alarms),
                milliseconds(figures["delay_s"]["median"]),
                number(figures["before_onset"]),
            ]
        )
    rows.sort(key=lambda row: row[0].split(",")[0])
    last = "fires before the onset"
    return table(
        [*"clips|AUC 0.6 s|AUC 1.2 s|recall by 1 s|false alarms by 1 s|median ms".split("|"), last],
        rows,
    )


def by_group(groups: dict[str, Any]) -> str:
    rows = [
        [
            name,
            group,
            str(row["sources"]),
            str(row["interruptions"]),
            spread(row["recall"]),
            str(row["others"]),
            spread(row["false_alarms"]),
            milliseconds(row["median_delay_s"]),
        ]
        for name, of_group in groups.items()
        for group, row in of_group.items()
    ]
    header = ["clips", "group", "sources", "n", "recall by 1 s", "n", "false alarms by 1 s"]
    return table([*header, "median ms"], rows)


def in_short(tables: dict[str, Any]) -> str:
    """One row for each set of trials, under the row of what was aimed at on real recordings."""
    header = ["trials", "n", "AUC 0.6 s", "0.8 s", "1.2 s", "recall by 1 s", "by 2 s"]
    header += ["backchannels cut", "coughs, noises cut", "median ms"]
    aim = ["*aim, real recordings*", "", ".90", ".95", ".98", ".95", "", "<= .10", "<= .05"]
    rows = [[*aim, "<= 332"]]
    for name in TITLES:
        if name not in tables:
            continue
        figures = tables[name]
        ranking_at, ever = figures["ranking"], figures["ever"]
        noises = [
            (cell["n"], cell["rate"][0])
            for kind, cell in ever.items()
            if kind not in ("interruption", "backchannel")
        ]
        cut_noises = sum(n * share for n, share in noises) / max(1, sum(n for n, _ in noises))
        rows.append(
            [
                name,
                f"{figures['interruptions']} + {figures['others']}",
                *(spread(ranking_at[seconds]["auc"]) for seconds in (0.6, 0.8, 1.2)),
                spread(figures["decisions"][1.0]["interruption"]["rate"]),
                spread(ever["interruption"]["rate"]),
                spread(ever["backchannel"]["rate"]) if "backchannel" in ever else "-",
                number(cut_noises) if noises else "-",
                milliseconds(figures["delay_s"]["median"]),
            ]
        )
    return table(header, rows)


def markdown(result: dict[str, Any]) -> str:
    metadata, cost = result["model"], result["milliseconds"]
    parts = [
        f"Model version `{metadata.get('version', '?')}`, {result['bytes'] / 1e6:.2f} MB, default "
        f"threshold {result['threshold']:g} ({metadata.get('threshold_origin', 'origin not said')})"
        f". CPU time: {cost['3 s window']:.2f} ms for a 3 s window, {cost['100 ms step']:.2f} ms "
        "for 100 ms with state carried. The stream scored here "
        f"differs from whole windows by at most {result['differences']['whole']:.1e} and from the "
        f"server's own answers by at most {result['differences']['server']:.1e}. In brackets: 95 % "
        "intervals, drawing whole speakers or sources with replacement 1,000 times (Wilson's "
        "bound where all or none fired).",
    ]
    parts += ["### In short", in_short(result["tables"])]
    parts += [
        one_table(name, result["tables"][name]) for name in TITLES if name in result["tables"]
    ]
    parts += [
        "### Worse lines: telephone band and noise",
        "Noise is babble of six held-out readers, a held-out voice as television, or hiss, under "
        "the whole window, drawn for each trial; of *recorded* and *made* every third. At 10 dB "
        "each of the three also lies under all video calls.",
        worse_lines(result["tables"]),
        "### By group of speakers and language",
        by_group(result["groups"]),
    ]
    if any(result["details"].values()):
        parts += ["### By what is said (made speech)", by_group(result["details"])]
    return "\n\n".join(parts) + "\n"


def write_into_card(card: Path, text: str) -> None:
    whole = card.read_text(encoding="utf-8")
    before, begun, rest = whole.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise ValueError(f"{card} lacks {BEGIN} ... {END}")
    card.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")
