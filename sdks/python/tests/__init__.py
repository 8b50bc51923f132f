"""The tests of the package: `python3 -m unittest` in the folder above. Those with nodes need the
program `amrita`; see `amrita.testing`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
