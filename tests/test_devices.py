"""A browser in the words that people have for it."""

import subprocess
import sys

import pytest

from kit.devices import device_name

APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
BLINK = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 26_1 like Mac OS X) {APPLE} Version/26.1 Mobile/15E148 Safari/604.1",
            "iPhone · Safari",
        ),
        (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) {APPLE} CriOS/122.0 Mobile/15E148 Safari/604.1",
            "iPhone · Chrome",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 10; K) {BLINK} Chrome/142.0.0.0 Mobile Safari/537.36",
            "Android · Chrome",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 13; Pixel 7) {BLINK} Chrome/142.0.0.0 Mobile Safari/537.36",
            "Pixel 7 · Chrome",
        ),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE} Version/26.0 Safari/605.1.15",
            "Mac · Safari",
        ),
        (
            f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {BLINK} Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
            "Windows · Edge",
        ),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "Linux · Firefox"),
        ("Browser/1.0", "an unknown browser"),
        ("<script>\x1b[2J" * 40, "an unknown browser"),
        ("", "an unknown browser"),
        (None, "an unknown browser"),
    ],
)
def test_a_browser_has_a_name_that_people_know(user_agent: str | None, name: str) -> None:
    """The device, or else its system, and the browser without its version; what nobody knows is said to be unknown."""
    assert device_name(user_agent) == name


def test_nothing_is_parsed_before_somebody_looks() -> None:
    """Neither the shop's process nor a command that names no device loads the list of browsers."""
    loads = "import sys, kit, kit.web, kit.cli; print('ua_parser' in sys.modules)"

    ran = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, timeout=60)

    assert (ran.stdout.strip(), ran.stderr) == ("False", "")


def test_without_the_library_no_browser_is_known() -> None:
    """A shop that installed neither extra still has its pages and commands."""
    hides = "import sys; sys.modules['ua_parser'] = None; from kit.devices import device_name; print(device_name('x'))"

    ran = subprocess.run([sys.executable, "-c", hides], capture_output=True, text=True, timeout=60)

    assert (ran.stdout.strip(), ran.stderr) == ("an unknown browser", "")
