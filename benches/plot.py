"""Draws the suite's results: how fast each arm is beside PyTorch's eager CPU."""

from pathlib import Path

from .harness import Result

#: Arms in the order of their bars; the peer is the line at 1.
ARMS = {"inductor": "tab:gray", "rustorch": "tab:orange", "rust_backend": "tab:red"}


def speeds(results: list[Result], mode: str, thread_count: int) -> dict[str, dict[str, float]]:
    """The suite's ratios of bests in one mode (inference or training), by model and arm."""
    found: dict[str, dict[str, float]] = {}
    for result in results:
        model, _, its_mode = result.case.partition(", ")
        if result.bench == "suite" and its_mode == mode and result.threads == thread_count and not result.failure:
            found.setdefault(model, {})[result.arm] = result.ratio_best
    return found


def draw(results: list[Result], file: Path) -> None:
    """One panel for inference and one for training, with as many threads as most results have."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.fonttype"] = "none"  # Letters as letters, not as curves.
    counts = [result.threads for result in results if result.bench == "suite"]
    if not counts:
        raise ValueError("there are no results of the suite to draw: let `suite` be among those measured")
    thread_count = min(counts)
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
    for panel, mode in zip(panels, ("inference", "training"), strict=True):
        ratios = speeds(results, mode, thread_count)
        arms = [arm for arm in ARMS if any(arm in of_model for of_model in ratios.values())]
        height = 0.8 / max(len(arms), 1)
        for index, arm in enumerate(arms):
            values = [of_model.get(arm, float("nan")) for of_model in ratios.values()]
            places = [row + (index + 0.5) * height - 0.4 for row in range(len(ratios))]
            panel.barh(places, values, height, label=arm, color=ARMS[arm])
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_yticks(range(len(ratios)), list(ratios))
        panel.set_xlabel("speed relative to PyTorch's eager CPU")
        panel.set_title(f"{mode}, {thread_count} thread{'s' if thread_count > 1 else ''}")
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(ARMS))
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    plt.close(figure)
