"""Run ``sct_deepseg`` or ``sct_rootlets`` as a page shows it, each network once for each image.

    python shown_command.py {sct_deepseg,sct_rootlets} ARGUMENT …

What a network puts out for a volume is kept in the folder ``$SHOWN_COMMANDS_CACHE``.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock

from sct_rootlets_task.cli import sct_deepseg, sct_rootlets
from sct_rootlets_task.inference import loading
from sct_rootlets_task.inference.loading import Network, Options
from sct_rootlets_task.inference.model_folder import ModelFolder
from sct_rootlets_task.segmentation import locator, segmenter

load_network = loading.load_network


class Remembered:
    """A network that is loaded when a volume is new to it."""

    engine, device, precision, tiles_run = "openvino", "cpu", "f32", (0, 0)
    tile_seconds = 0.0

    def __init__(self, folder: ModelFolder, options: Options) -> None:
        self.folder, self.options = folder, options
        self.network: Network | None = None

    def predict(
        self, volume: np.ndarray, spacing: Sequence[float], roi_mask: np.ndarray | None = None
    ) -> np.ndarray:
        digest = hashlib.sha256(volume.tobytes() + str((self.folder.path, spacing)).encode())
        digest.update(b"" if roi_mask is None else np.ascontiguousarray(roi_mask).tobytes())
        cache = Path(os.environ["SHOWN_COMMANDS_CACHE"])
        known = cache / f"{digest.hexdigest()}.npy"
        with FileLock(cache / ".lock"):
            if not known.exists():
                self.network = self.network or load_network(self.folder, self.options)
                np.save(known, self.network.predict(volume, spacing, roi_mask))
        return np.asarray(np.load(known))


if __name__ == "__main__":
    segmenter.load_network = Remembered  # type: ignore[assignment]
    locator.load_network = Remembered  # type: ignore[assignment,attr-defined]
    main = {"sct_deepseg": sct_deepseg.main, "sct_rootlets": sct_rootlets.main}[sys.argv[1]]
    sys.exit(main(sys.argv[2:]))
