"""Whether a data set is valid BIDS, by the official validator."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sct_rootlets_task.errors import DatasetError
from sct_rootlets_task.io.untrusted import file_argument, printable, reason_of

logger = logging.getLogger(__name__)

COMMAND = "bids-validator-deno"
# Headers are checked image by image, so that a broken file stops only itself.
_OPTIONS = ("--format", "json", "--ignoreWarnings", "--ignoreNiftiHeaders")
_SHOWN = 3


def validate_dataset(bids_dir: Path) -> None:
    """Check a data set with the official validator, where it is installed.

    Parameters
    ----------
    bids_dir : Path
        The data set.

    Raises
    ------
    DatasetError
        If the validator finds errors.
    """
    command = shutil.which(COMMAND) or shutil.which(COMMAND, path=str(Path(sys.executable).parent))
    if command is None:
        logger.info("The data set is not validated: %s is not installed.", COMMAND)
        return
    try:
        words = [command, *_OPTIONS, file_argument(bids_dir)]
        run = subprocess.run(words, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        issues = json.loads(run.stdout)["issues"]["issues"]
        errors = list(dict.fromkeys(_text(issue) for issue in issues if _is_error(issue)))
    except (OSError, ValueError, TypeError, LookupError) as error:
        logger.warning("The data set could not be validated (%s).", reason_of(error))
        return
    if errors:
        more = f" and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        raise DatasetError(
            f"{printable(bids_dir)} is not valid BIDS: {'; '.join(errors[:_SHOWN])}{more}. Correct "
            "it, list what is no BIDS in its .bidsignore, or use --skip-bids-validation."
        )


def _is_error(issue: Mapping[str, Any]) -> bool:
    return issue.get("severity") == "error"


def _text(issue: Mapping[str, Any]) -> str:
    words = (issue.get("location"), issue.get("code"), issue.get("subCode"))
    return " ".join(printable(word) for word in words if word)
