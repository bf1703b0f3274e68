"""The `kit` command, for people; with `--json` for programs. One file for each group of commands."""

from kit.cli import audience as audience
from kit.cli import compare as compare
from kit.cli import deletion as deletion
from kit.cli import delivery as delivery
from kit.cli import export as export
from kit.cli import identity as identity
from kit.cli import people as people
from kit.cli import report as report
from kit.cli import restored as restored
from kit.cli import running as running
from kit.cli.common import app as app
from kit.cli.common import main as main
