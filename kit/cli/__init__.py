"""The `kit` command, for people; with `--json` for programs. One file for each group of commands."""

from kit.cli import delivery as delivery
from kit.cli import running as running
from kit.cli.common import app as app
from kit.cli.common import main as main
