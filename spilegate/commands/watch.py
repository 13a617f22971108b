"""`spilegate watch`: the page of a run, on loopback, renewed while the run goes on."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from spilegate.commands.arguments import Debug, Log, Quiet
from spilegate.errors import InputError
from spilegate.kernels import launch

LOOPBACK, PORT = "127.0.0.1", 8765


def watch(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a run, which need not be there yet.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0: any that is free.")] = PORT,
    host: Annotated[
        str, typer.Option("--host", help="Address to be reached at; any other lets others look, unasked.")
    ] = LOOPBACK,
    quiet: Quiet = False,
    log: Log = None,
    debug: Debug = False,  # noqa: ARG001 - read before a command runs
) -> None:
    """Show a run's page in a browser, renewed while the run goes on."""
    if launch.is_writer():
        serve(folder, host, port, quiet=quiet, log=log)


def serve(folder: Path, host: str, port: int, *, quiet: bool, log: Path | None) -> None:
    """Serve the page of a folder until the user has seen enough.

    Raises InputError for a folder that is a file, or an address that cannot be had.
    """
    from spilegate.report.console import Output
    from spilegate.report.live.server import Server
    from spilegate.report.live.watched import Watched

    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: found a file; expected the folder that a run writes into (--output)")
    with Output(quiet=quiet, log=log) as out, Server(Watched(folder), host, port) as server:
        if hasattr(os, "nice"):
            # The run goes first.
            os.nice(5)
        shown = f"[{host}]" if ":" in host else host
        out.line(f"http://{shown}:{server.port}/ shows {folder}; Ctrl-C ends it", "bold")
        out.line(f"from elsewhere: ssh -L {server.port}:localhost:{server.port} {socket.gethostname()}")
        server.serve_forever(poll_interval=1.0)
