"""A pytest plugin, loaded wherever this package is installed: a shop's own tests get vendors on loopback."""

from collections.abc import Iterator

import pytest

from kit.sandbox.server import Sandbox


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "kit_sandbox(**settings): what `Sandbox(...)` of the kit_sandbox fixture is given"
    )


@pytest.fixture
def kit_sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """Return a sandbox of this test's own, served on loopback at `kit_sandbox.addresses`.

    `@pytest.mark.kit_sandbox(strict=False)` and the like set it up. It serves from a thread of its own, so that
    synchronous and asynchronous tests use it alike.
    """
    mark = request.node.get_closest_marker("kit_sandbox")
    sandbox = Sandbox(**(mark.kwargs if mark else {}))
    with sandbox.serve():
        yield sandbox


@pytest.fixture
def kit_environment(kit_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set and return the `KIT_*` variables by which `kit.from_env()` reports to `kit_sandbox`."""
    lines = kit_sandbox.environment(kit_sandbox.addresses)
    variables = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables
