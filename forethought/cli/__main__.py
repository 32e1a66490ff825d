"""`python -m forethought.cli`: the same as the console script `forethought`."""

from forethought.cli.main import app

app(prog_name="forethought")
