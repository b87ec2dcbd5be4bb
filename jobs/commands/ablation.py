"""dsnet ablation: what each part of the method is worth."""

from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

import click

from jobs.config_flags import ConfigCommand, config_flags, configuration
from jobs.output import working

if TYPE_CHECKING:
    from dsnet.tasks.measure import Measure
    from jobs.ablation import Ablation


@click.command("ablation", cls=ConfigCommand)
@config_flags
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path), metavar="OUT.md")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=2))
def command(config_file: str, out: Path, seeds: int, **flags: str | None) -> None:
    """Train without each part of the method and write a table of what it costs.

    Stage I from labels alone, by in-place distillation, by bootstrapping and by ensemble
    bootstrapping; the slimmest and the widest network, each trained by itself; on ensemble
    bootstrapping, stage II with SGS off, giving up and trying its best. Gates are compared at the
    config's target.

    \b
    Examples:
      dsnet ablation --config jobs/configs/digits.yaml docs/results/ablation.md
    """
    config = configuration(config_file, flags)
    with working():
        from dsnet.io.files import atomic_file
        from jobs.ablation import ablate, grouped
        from pipeline.cluster import ray_cluster
        from pipeline.config import import_plugins
        from pipeline.data.dataset import ingest
        from pipeline.runner.checks import task_of

        import_plugins(config)
        headline = task_of(config, None).headline
        dataset = ingest(config)
        ray_cluster.connect(config.cluster)
        groups = list(grouped(ablate(config, dataset, seeds)))
    unit = "percent" if headline.share else headline.unit
    lines = [
        f"Config `{config_file}`, {seeds} seeds from {config.seed}, "
        f"{dataset.test.samples} test images: {headline.title} in {unit}, mean ± standard "
        "deviation over the seeds; a gate's row has its average multiply-adds over the widest's "
        "too.",
        "",
        *table(groups, headline),
        "",
        "```yaml",
        config.yaml().rstrip(),
        "```",
        "",
    ]
    with atomic_file(out) as temporary:
        temporary.write_text("\n".join(lines))
    click.echo("\n".join(table(groups, headline)))


def table(groups: "list[tuple[str, list[Ablation]]]", headline: "Measure") -> list[str]:
    """The trials as a Markdown table, a line for each thing that was changed."""
    scale = 100 if headline.share else 1
    names = max((list(trials[0].reached) for _, trials in groups), key=lambda names: len(names))
    lines = [
        "| " + " | ".join(["", *names, "share"]) + " |",
        "| " + " | ".join(["---"] + ["---:"] * (len(names) + 1)) + " |",
    ]
    for title, trials in groups:
        columns = [[t.reached[name] for t in trials if name in t.reached] for name in names]
        cells = [spread([scale * value for value in column]) for column in columns]
        cells.append(spread([100 * t.share for t in trials if t.share is not None]))
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return lines


def spread(values: list[float]) -> str:
    """Mean ± standard deviation; empty where there is nothing."""
    return f"{mean(values):.2f} ± {stdev(values):.2f}" if values else ""
