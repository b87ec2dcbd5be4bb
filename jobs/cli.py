"""The `dsnet` command: its commands, and what becomes of errors.

Exit status 0: done. 2: the input was wrong, said in one line. 130: interrupted. 1: anything else;
in one line where a training diverged, a disk is full or the MLflow store is away, and else with a
traceback. Each command is a module of `jobs.commands`, imported when it is asked for: what
PyTorch, Ray and MLflow take to import is paid only by who uses them.
"""

import atexit
import difflib
import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence

import click

from dsnet.errors.text import escaped
from jobs.output import claim_stdout
from pipeline.cluster.interrupts import stopped_by, terminable

COMMANDS = {
    "init": "Print a configuration for a folder of pictures, to start from.",
    "run": "Run the whole chain of a configuration, from pictures to a registered model.",
    "sweep": "Train a gate for each of several targets: what does each budget buy?",
    "report": "Write the report of a sweep or a version as one HTML page.",
    "plan": "What a run would do, reuse, need and take, without running it.",
    "submit": "Run a chain on a Ray cluster, as a Ray job.",
    "jobs": "What runs on a cluster or this machine: list, status, logs, stop, report.",
    "ingest": "Write pictures to a .beton file, the format that training reads.",
    "inspect": "Show what .beton files hold: classes, pictures, what was left out.",
    "evaluate": "Measure a model on other data: every width, routed, by class.",
    "models": "List the registered models.",
    "promote": "Make a version the champion of its name, by hand.",
    "rollback": "Make the champion before this one champion again.",
    "pull": "Copy a registered model into a folder.",
    "predict": "Classify image files.",
    "serve": "Answer over HTTP, at a budget that can fall under load.",
    "export": "Write a model as one ONNX file with the routing inside.",
    "madds": "Print the multiply-adds of every sub-network of an architecture.",
    "import-official": "Convert a checkpoint of the official code into a model directory.",
    "register": "Register a model directory that was made elsewhere.",
    "bench": "Measure how fast things are, each against something comparable.",
    "ablation": "Train without each part of the method: what is it worth?",
    "demo": "Train on handwritten digits, then use what was registered.",
    "schema": "Print the JSON schema of configurations, for editors.",
    "doctor": "Check what this machine has and lacks.",
}


class Lazy(click.Group):
    """A group whose commands are imported when they are used, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"jobs.commands.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Lazy,
    no_args_is_help=False,  # one line like any other refusal
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="dsnet", message="%(package)s %(version)s")
def dsnet() -> None:
    """Dynamic Slimmable Networks: train, register and use them, on a laptop or a Ray cluster.

    \b
    Start here:
      dsnet doctor                                      what this machine has and lacks
      dsnet run --config jobs/configs/digits.yaml       pictures in, a registered model out
      dsnet init photos/ > photos.yaml                  a configuration for pictures of your own
      dsnet models                                      what is registered
      dsnet predict models:/digits@champion photo.png   use it

    `dsnet COMMAND --help` explains a command, with examples.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line `args` (those of this process if None) and exit with its status."""
    _spare_the_collector()
    claim_stdout()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
    )
    for name in ("dsnet", "pipeline", "jobs"):
        logging.getLogger(name).setLevel(logging.INFO)
    # Its retries: what matters is whether the last one fails, and that is reported.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    status = run(args)
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has what it wanted: `dsnet models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.stdout = sys.stderr  # what libraries say as they shut down is no result
    if watching := sys.modules.get("pipeline.cluster.watch"):  # else there is no cluster to leave
        watching.leave(status)
    sys.exit(status)


def _spare_the_collector() -> None:
    """Look for garbage less often, and not at all at the end.

    PyTorch, Ray and MLflow make a million objects as they are imported, and nearly all stay: to go
    through them every 700 allocations, and once more when the process ends, took two fifths of what
    a finished chain takes.
    """
    gc.set_threshold(100_000, 20, 20)
    atexit.register(_leave_the_rest)


def _leave_the_rest() -> None:
    # What binds these to Python complains of every object that is left.
    if not {"onnx", "triton"} & sys.modules.keys():
        gc.freeze()


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line `args` and return its exit status; wrong input becomes one line."""
    try:
        with terminable():
            try:
                status = dsnet.main(args, prog_name="dsnet", standalone_mode=False)
            except Exception as error:
                if stopped_by() is None:
                    raise
                raise click.Abort from error  # whatever came of that
    except click.UsageError as error:
        return _refuse(_usage(error))
    except click.ClickException as error:
        return _refuse(error.format_message())
    except click.Abort:
        number = stopped_by() or signal.SIGINT
        _say("terminated" if number == signal.SIGTERM else "interrupted")
        return 128 + number
    except BrokenPipeError:
        return 0
    except SystemExit as error:  # none of ours raises it
        _say(
            f"what was imported has ended the process (sys.exit({error.code!r:.60})), before the "
            "command was done: a plugin must raise an error instead"
        )
        return 1
    except Exception as error:
        # Looked up rather than imported: importing dsnet takes PyTorch's two seconds, and none of
        # its errors can have been raised where nothing imported them.
        errors = sys.modules.get("dsnet.errors")
        if errors is not None and isinstance(error, errors.InputError):
            return _refuse(str(error))
        if errors is not None and isinstance(error, (errors.DivergenceError, errors.OutageError)):
            _say(str(error))
            return 1
        raise
    return status if isinstance(status, int) else 0


def _refuse(problem: str) -> int:
    _say(problem)
    return 2


def _say(text: str) -> None:
    click.echo(f"dsnet: {escaped(' '.join(text.split()))}", err=True)


def _usage(error: click.UsageError) -> str:
    """What is wrong with the command line, the nearest right word, and where help is."""
    context = error.ctx
    if context is None:
        return error.format_message()
    place = f"; see {context.command_path} --help"
    if isinstance(error, click.NoSuchOption):
        flags = [flag for p in context.command.get_params(context) for flag in p.opts]
        flags = [flag for flag in flags if flag.startswith("--")]
        return f"unknown flag {error.option_name}{_nearest(error.option_name, flags)}{place}"
    if isinstance(error, click.NoSuchCommand):
        assert isinstance(context.command, click.Group)
        commands = context.command.list_commands(context)
        return (
            f"unknown command {error.command_name}{_nearest(error.command_name, commands)}{place}"
        )
    return error.format_message().rstrip(".") + place


def _nearest(word: str, known: Sequence[str]) -> str:
    return f"; the nearest is {difflib.get_close_matches(word, known, n=1, cutoff=0)[0]}"


if __name__ == "__main__":
    main()
