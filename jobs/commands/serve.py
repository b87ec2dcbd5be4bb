"""dsnet serve: a model over HTTP, on Ray Serve."""

import threading

import click

from jobs.output import working


@click.command("serve")
@click.argument("model", metavar="MODEL")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, metavar="N")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen. There is no authentication: beyond this machine, put a proxy with it "
    "in front.",
)
@click.option(
    "--budget",
    metavar="TARGET",
    help="Multiply-adds to spend on average where a request asks for none: a fraction of the "
    "widest routable sub-network's (0.5) or a count (200M); left out: the target of MODEL's alias, "
    "else as the model was tuned.",
)
@click.option(
    "--replicas",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that run the network, a core each; left out: all cores but one.",
)
@click.option(
    "--p99",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="Hold this 99th percentile of latency by spending less while many wait.",
)
@click.option(
    "--budget-min",
    "least",
    metavar="TARGET",
    help="With --p99: the least to spend; left out: the slimmest for every image.",
)
def command(
    model: str,
    port: int,
    host: str,
    budget: str | None,
    replicas: int | None,
    p99: float | None,
    least: str | None,
) -> None:
    """Serve MODEL, a models:/ URI or a model directory, until Ctrl-C or SIGTERM.

    \b
      POST /predict       an image's bytes, or JSON {"images": [base64, …]}; ?budget= and ?top_k=
      GET  /health        200 while it takes requests
      GET  /metrics       for Prometheus
      GET  /openapi.json  what all of that looks like; /docs as a page
      GET  /              a page to try it in a browser

    Images that come while the network is busy share its next batch. At the end what has come is
    answered first. On RAY_ADDRESS's cluster if that is set, else on its own cluster.

    \b
    Examples:
      dsnet serve models:/digits@champion
      curl --data-binary @three.png 'http://127.0.0.1:8000/predict?top_k=3'
      dsnet serve ./pulled --port 9000 --budget 0.8 --p99 250 --budget-min 0.3
    """
    if least is not None and p99 is None:
        raise click.UsageError("--budget-min: expected --p99 MS with it, found none")
    with working():
        from pipeline.predict.serve.launch import deployed, http
        from pipeline.predict.serve.prepare import prepare

        seconds = None if p99 is None else p99 / 1000
        prepared = prepare(model, budget=budget, replicas=replicas, p99=seconds, least=least)
        with http(host, port) as url, deployed(prepared):
            click.echo(f"serving {model} at {url} (API: {url}/docs); Ctrl-C ends it", err=True)
            threading.Event().wait()
