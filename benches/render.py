"""Writes the newest record of each processor as Markdown: `python -m benches.render PAGE`.

A section a processor goes between the marks of the page (`docs/performance.md`): the models, and each kind of kernel
in a line. Every row is in a page of the processor's own, in the folder beside it that is called as the page is.
"""

import argparse
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from .harness import Result
from .peers import is_ours
from .records import FOLDER, Record, newest

BEGIN, END = "<!-- begin results -->", "<!-- end results -->"
#: How our arms are called in a table.
OURS = {
    "rustorch": "eager",
    "rust_backend": "compiled",
    "rust_backend, CPU model": "CPU model",
    "rust_backend, CPU model, keep_weights": "kept weights",
}

#: The arms of a case with a number of threads.
Row = dict[str, Result]


def duration(microseconds: float) -> str:
    if math.isnan(microseconds):
        return "-"
    if microseconds < 100:
        return f"{microseconds:.2f} µs"
    return f"{microseconds:.0f} µs" if microseconds < 10_000 else f"{microseconds / 1000:.1f} ms"


def ratio(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def mean(values: Iterable[float]) -> float:
    """The geometric mean."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def rows(results: list[Result], bench: str) -> dict[tuple[str, int], Row]:
    """The arms of a bench's cases, by case and threads."""
    found: dict[tuple[str, int], Row] = {}
    for result in results:
        if result.bench == bench:
            found.setdefault((result.case, result.threads), {})[result.arm] = result
    return found


def best(row: Row, ours: bool) -> Result | None:
    """The fastest of our arms, or of the peers."""
    measured = [result for result in row.values() if not result.failure and is_ours(result) == ours]
    return min(measured, key=lambda result: result.best_us, default=None)


def beside_the_best_peer(row: Row) -> float:
    """How many times as fast our best arm is as the best peer."""
    mine, theirs = best(row, True), best(row, False)
    return theirs.best_us / mine.best_us if mine and theirs else math.nan


def line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def heads(*names: str) -> list[str]:
    return [line(names), line(["---"] * len(names))]


def models(results: list[Result]) -> Iterator[str]:
    """A line a model and mode: with each number of threads our best arm, the best peer, their ratio, our share."""
    found = rows(results, "suite")
    counts = sorted({count for _, count in found})
    titles = [title for count in counts for title in (f"ours, {threads(count)}", "best peer", "ratio", "share")]
    yield from heads("model", *titles)
    for case in dict.fromkeys(case for case, _ in found):
        cells = []
        for count in counts:
            row = found.get((case, count), {})
            mine, theirs = best(row, True), best(row, False)
            cells += [f"{duration(mine.best_us)} {OURS.get(mine.arm, mine.arm)}" if mine else "-"]
            cells += [f"{duration(theirs.best_us)} {theirs.arm}" if theirs else "-"]
            cells += [ratio(beside_the_best_peer(row)), percent(mine.share if mine else None)]
        yield line([case, *cells])


def kinds(results: list[Result]) -> Iterator[str]:
    """A line a bench and number of threads: the mean and the slowest of its cases, and their mean share."""
    yield from heads("bench", "threads", "cases", "geometric mean", "slowest", "share")
    groups: dict[tuple[str, int], dict[str, Row]] = {}
    for bench in dict.fromkeys(result.bench for result in results):
        for (case, threads), row in rows(results, bench).items():
            kind = f"{bench}, {case.partition(', ')[2]}" if bench == "suite" else bench
            groups.setdefault((kind, threads), {})[case] = row
    for (kind, threads), cases in groups.items():
        ratios = {case: beside_the_best_peer(row) for case, row in cases.items()}
        known = {case: value for case, value in ratios.items() if not math.isnan(value)}
        if not known:
            continue
        slowest = min(known, key=known.__getitem__)
        shares = [mine.share for row in cases.values() if (mine := best(row, True)) and mine.share]
        share = percent(mean(shares)) if shares else "-"
        yield line(
            [kind, threads, len(known), ratio(mean(known.values())), f"{ratio(known[slowest])}: {slowest}", share]
        )


def described(record: Record) -> str:
    """What was measured, on what."""
    limits = [
        f"{threads(int(count))} {roof['flops'] / 1e9:.0f} GFLOP/s and {roof['bytes'] / 1e9:.1f} GB/s"
        for count, roof in record.roofs.items()
    ]
    versions = "".join(f", {package} {version}" for package, version in record.versions.items())
    return (
        f"{record.called}, {record.cores} cores; commit {record.commit}, {record.date}; torch {record.torch}, "
        f"Python {record.python}{versions}. The roof: {'; '.join(limits) or 'not measured'}."
    )


def section(record: Record, details: str) -> str:
    """A processor's part of the page; `details` is where its every row is."""
    lines = [f"### {record.processor}", "", f"{described(record)} [Every row]({details})."]
    if any(result.bench == "suite" for result in record.results):
        lines += ["", *models(record.results)]
    return "\n".join([*lines, "", *kinds(record.results)])


def cell(result: Result | None) -> str:
    if result is None:
        return ""
    return result.failure.replace("|", "/") or duration(result.best_us) + (" (falls back)" if result.fallbacks else "")


def table(results: list[Result], bench: str) -> Iterator[str]:
    """A line a case and number of threads: every arm's time, and our best one's ratios and share."""
    found = rows(results, bench)
    arms = list(dict.fromkeys(arm for row in found.values() for arm in row))
    yield from heads("case", "threads", *arms, "ratio", "of medians", "of the best peer", "share")
    for (case, threads), row in found.items():
        mine = best(row, True)
        ratios = [mine.ratio_best, mine.ratio_median, beside_the_best_peer(row)] if mine else [math.nan] * 3
        times = (cell(row.get(arm)) for arm in arms)
        yield line([case, threads, *times, *map(ratio, ratios), percent(mine.share if mine else None)])


def whole(record: Record) -> str:
    """The page of a processor's own."""
    lines = [
        f"# {record.processor}",
        "",
        f"Written by `python -m benches.render`. {described(record)}",
        "",
        "Times are the best of many; a ratio is the time of PyTorch's eager CPU divided by that of our fastest arm. "
        '"Falls back": the op has no Rust kernel, and ran on PyTorch\'s.',
    ]
    for bench in dict.fromkeys(result.bench for result in record.results):
        lines += ["", f"## {bench}", "", *table(record.results, bench)]
    return "\n".join(lines) + "\n"


def write(page: Path, folder: Path = FOLDER) -> None:
    """Puts the sections between the marks and leaves the rest of the page alone; writes the processors' own pages."""
    old = page.read_text()
    if BEGIN not in old or END not in old:
        raise ValueError(f"{page} lacks the lines {BEGIN} and {END}")
    beside = page.with_suffix("")
    sections = []
    for record in newest(folder):
        beside.mkdir(exist_ok=True)
        (beside / f"{record.processor}.md").write_text(whole(record))
        sections.append(section(record, f"{beside.name}/{record.processor}.md"))
    head, tail = old.split(BEGIN)[0], old.split(END)[1]
    page.write_text(f"{head}{BEGIN}\n" + "".join(f"{text}\n\n" for text in sections) + f"{END}{tail}")


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.render", description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    write(parser.parse_args(given).page)


if __name__ == "__main__":
    main()
