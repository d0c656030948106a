"""The `ml-assets` command: parses the arguments and calls the function of one command."""

import sys

try:
    import argparse
    import json
    import os
    import signal
    from collections.abc import Sequence
    from typing import Final

    from ml_assets.cli import (
        champion,
        compare,
        completion,
        cost,
        doctor,
        explain,
        export,
        gc,
        init,
        leaktest,
        loop,
        new,
        parse,
        predict,
        promote,
        quarantine,
        replay,
        reproduce,
        rollback,
        run,
        serve,
        simulate,
        status,
        trace,
        ui,
        upgrade,
        withdraw,
    )
    from ml_assets.cli.console.examples import help_end
    from ml_assets.cli.console.interrupts import Interrupts
    from ml_assets.cli.console.terminal import escape_output, is_output_lost
    from ml_assets.machine.openmp import wait_briefly
except KeyboardInterrupt:  # no handler is installed and nothing has started
    sys.exit(130)

INTERRUPTED: Final = 128 + signal.SIGINT
READER_GONE: Final = 128 + signal.SIGPIPE
"""The exit code of a process that a closed pipe ended."""
COMMANDS = (
    init, new, run, ui, loop, status, champion, compare, predict, serve, export, promote, rollback, withdraw, explain,
    quarantine, trace, reproduce, replay, gc, leaktest, simulate, parse, doctor, cost, upgrade, completion,
)  # fmt: skip


class _Version(argparse.Action):
    """Prints the installed release. Other commands do not read it, because that delays their start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        print(f"ml-assets {importlib.metadata.version('ml-assets')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command."""
    top = argparse.ArgumentParser(
        prog="ml-assets", description="Declare a table and a target; get a model that trains."
    )
    top.set_defaults(needs_dagster=True)
    top.add_argument("--version", action=_Version, nargs=0, help="print the installed release")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_to(commands)
    for name, command in commands.choices.items():
        command.epilog, command.formatter_class = help_end(name), argparse.RawDescriptionHelpFormatter
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Without arguments it runs as the process's own command, which handles interrupts and ends the process.

    Returns:
        0 done, 1 the answer is no, 2 usage or bad input, 3 a step failed, 141 the reader of the output has gone.
    """
    if arguments is not None:
        return _run(arguments)
    try:
        code = _run_as_process()
        return READER_GONE if is_output_lost() and code < 2 else code
    except KeyboardInterrupt:  # before the handler is installed, or after
        return INTERRUPTED


def _run_as_process() -> int:
    from ml_assets.machine.system_limits import allow_files

    escape_output()
    if problem := allow_files():
        print(f"ml-assets: {problem}", file=sys.stderr)
        return 3
    try:
        with Interrupts():
            return _run(None)
    except OSError as error:  # from the folder for temporary files
        return _failed(error)


def _run(arguments: Sequence[str] | None) -> int:
    wait_briefly()
    # One write for many events: a run over a year has thousands of them.
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "500")
    chosen = parser().parse_args(arguments)
    from ml_assets.cli.console.problems import KNOWN
    from ml_assets.doctor.production import require_settings

    try:
        if chosen.function is not doctor.doctor:  # which reports missing settings itself
            require_settings(dagster=chosen.needs_dagster)
        return int(chosen.function(chosen))
    except KNOWN as error:
        hint = _hint(error)
        return _report(f"{error}{hint}", 3 if hint else 2, as_json=getattr(chosen, "json", False))
    except Exception as error:  # noqa: BLE001 - a full disk is each library's own error; all else is raised again
        return _failed(error, as_json=getattr(chosen, "json", False))


def _failed(error: Exception, *, as_json: bool = False) -> int:
    """Report the error if the machine caused it. Raise any other error again, because it is a defect."""
    if not (hint := _hint(error)):
        raise error
    return _report(f"{error or type(error).__name__}.{hint}", 3, as_json=as_json)


def _report(error: str, code: int, *, as_json: bool) -> int:
    """Print an error, also as the JSON that a program reads, and return the exit code."""
    print(f"ml-assets: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": error, "code": code}))
    return code


def _hint(error: Exception) -> str:
    from ml_assets.machine.system_limits import advice

    hint = advice(f"{type(error).__name__}: {error}")
    return f" {hint}" if hint else ""


if __name__ == "__main__":
    sys.exit(main())
