"""Servers as processes of their own, and a reverse proxy that takes a path's prefix away."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kit.sandbox import Addresses, Sandbox
from kit.sandbox.sockets import served_in_thread
from tests.support import KEY

ROOT = Path(__file__).parents[2]

Server = Callable[[str, int, str], list[str]]
"""Takes module:name, a port and a root path; returns the words after `python -m`."""


def uvicorn(app: str, port: int, root_path: str) -> list[str]:
    return ["uvicorn", app, f"--port={port}", f"--root-path={root_path}"]


def hypercorn(app: str, port: int, root_path: str) -> list[str]:
    return ["hypercorn", app, f"--bind=127.0.0.1:{port}", f"--root-path={root_path}"]


def granian(app: str, port: int, root_path: str) -> list[str]:
    prefix = [f"--url-path-prefix={root_path}"] if root_path else []
    return ["granian", "--interface=asgi", app, f"--port={port}", *prefix]


def worker(app: str) -> list[str]:
    return ["kit", "worker", f"--app={app}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of our own; `log` is where it writes."""

    run: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        return self.log.read_text()

    def stop(self) -> None:
        """Send SIGTERM and wait for a clean end: the signal's own code is one, for uvicorn gives it back."""
        self.run.send_signal(signal.SIGTERM)
        code = self.run.wait(timeout=20)
        assert code in {0, -signal.SIGTERM}, self.said()
        assert "Traceback" not in self.said(), self.said()


@contextlib.contextmanager
def process(words: list[str], environment: Mapping[str, str], folder: Path) -> Iterator[Process]:
    """Run `python -m …` until the block ends; killed then, when the block has not ended it."""
    log = folder / f"{words[0]}.log"
    with log.open("wb") as told:
        run = subprocess.Popen(
            [sys.executable, "-m", *words],
            env=environment,
            cwd=ROOT,
            stdout=told,
            stderr=told,
            start_new_session=True,  # granian's workers are killed with it
        )
    try:
        yield Process(run=run, log=log)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()


@contextlib.contextmanager
def serving(
    server: Server, app: str, environment: Mapping[str, str], folder: Path, *, root_path: str = ""
) -> Iterator[tuple[Process, str]]:
    """Serve the app from a process of its own; yield it and its URL once it listens."""
    port = _free_port()
    with process(server(app, port, root_path), environment, folder) as begun:
        until(lambda: _listens(begun, port))
        yield begun, f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def proxied(url: str, prefix: str) -> Iterator[str]:
    """Stand before a server as a reverse proxy that serves it under `prefix` and takes that away; yield the URL."""

    async def forward(request: Request) -> Response:
        target = httpx.URL(url, path=f"/{request.path_params['path']}", query=request.url.query.encode())
        body = await request.body()
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            answer = await client.request(request.method, target, headers=request.headers.raw, content=body)
        response = Response(answer.content, answer.status_code)
        response.raw_headers = answer.headers.raw
        return response

    app = Starlette(routes=[Route(prefix + "/{path:path}", forward, methods=["GET", "POST"])])
    with served_in_thread(app, "127.0.0.1", 0) as outside:
        yield outside


def variables(sandbox: Sandbox, vendors: Addresses, folder: Path) -> dict[str, str]:
    """Return the environment in which `Kit.from_env()` finds its store and the sandbox's vendors."""
    lines = [line for line in sandbox.environment(vendors) if not line.startswith("#")]
    return {
        **os.environ,
        **dict(line.split("=", 1) for line in lines),
        "KIT_SECRET_KEYS": KEY,
        "KIT_CONSENT": "opt_out",
        "KIT_STORE": f"sqlite:///{folder}/kit.db",
        "KIT_TRUSTED_PROXIES": "127.0.0.1",
    }


def until(true: Callable[[], bool], *, seconds: float = 30) -> None:
    """Wait until it is so: a busy machine takes its time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def _listens(begun: Process, port: int) -> bool:
    assert begun.run.poll() is None, begun.said()
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
