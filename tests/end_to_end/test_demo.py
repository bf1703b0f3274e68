"""The first of the two commands: `kit demo --once`, as a new user runs it."""

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
