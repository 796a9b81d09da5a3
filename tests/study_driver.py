"""A command that runs items in a pool, to be interrupted and killed: FOLDER WORKERS HOW …."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from sct_rootlets_task.cli.console import forgiving_streams, run_command
from sct_rootlets_task.study.pool import run_in_pool
from study_work import Prepare, notes


def body() -> int:
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    todo = [note for note in notes(folder, *sys.argv[3:]) if not note.output.exists()]
    with closing(run_in_pool(todo, Prepare(folder), workers=workers, threads=1)) as outcomes:
        for outcome in outcomes:
            print(outcome.name, outcome.status, flush=True)
    return 0


if __name__ == "__main__":
    with forgiving_streams():
        code = run_command("driver", sys.argv[1:], body)
    sys.exit(code)
