"""The first of the two commands: `kit demo --once`, as a new user runs it."""

import os
import socket
import subprocess
import sys


def test_the_demo_reports_every_order_as_it_should_be() -> None:
    """All nine visits end as they must, and the command says so with its exit code."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "kit", "demo", "--once"], capture_output=True, text=True, timeout=120
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "9 orders, each as it should be." in ran.stdout
    assert ran.stderr == ""


def test_the_demo_does_not_care_for_a_shops_own_mode() -> None:
    """KIT_MODE=shadow is for the shop; the demo's vendors are the sandbox's."""
    ran = subprocess.run(
        [sys.executable, "-m", "kit", "demo", "--once"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "KIT_MODE": "shadow"},
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_taken_port_is_one_line() -> None:
    """It says which port, and what to write instead."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = subprocess.run(
            [sys.executable, "-m", "kit", "demo", "--port", port], capture_output=True, text=True, timeout=60
        )

    assert ran.returncode == 1
    assert ran.stderr.strip() == f"--port: {port} is taken; name another one, or 0 for any"
