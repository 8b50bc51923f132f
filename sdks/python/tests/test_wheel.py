"""The published form: the wheel is built and installed from a file into a fresh environment,
without a network, and works there; so does the source archive."""

import os
import subprocess
import sys
import tempfile
import unittest
import venv
import zipfile
from pathlib import Path
from typing import Dict

from tests.support import PACKAGE, ROOT

#: No index: whatever were fetched would be an error.
OFFLINE: Dict[str, str] = {
    **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    "PIP_NO_INDEX": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}

TRY = """
import amrita, amrita.testing, amrita.immortal, sys
assert "site-packages" in amrita.__file__, amrita.__file__
with amrita.testing.cluster(1) as cluster:
    with cluster.client() as client:
        print(client.create("/core/examples", {"name": "installed"}).value["name"])
"""


def has_venv() -> bool:
    words = [sys.executable, "-c", "import ensurepip, venv"]
    return subprocess.run(words, capture_output=True).returncode == 0


def fresh_python(folder: Path) -> str:
    """One with pip, in an environment of its own: the machine's own may have none."""
    venv.create(folder / "env", with_pip=True)
    return str(folder / "env" / "bin" / "python")


class Wheel(unittest.TestCase):
    @unittest.skipUnless(has_venv(), "this Python has no ensurepip (python3-venv)")
    def test_it_is_built_installed_and_works(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            python = fresh_python(here)
            self.run_in(here, python, "-m", "pip", "wheel", "--no-deps", str(PACKAGE))
            [wheel] = here.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                names = set(archive.namelist())
            self.assertIn("amrita/py.typed", names)
            self.assertIn("amrita-0.1.0.dist-info/LICENSE", names)
            self.assertFalse([name for name in names if "test_" in name or "__pycache__" in name])
            self.run_in(here, python, "-m", "pip", "install", str(wheel))
            self.run_in(here, python, "-m", "pip", "check")
            self.assertEqual(self.run_in(here, python, "-c", TRY).strip(), "installed")

    @unittest.skipUnless(has_venv(), "this Python has no ensurepip (python3-venv)")
    def test_a_wheel_can_be_made_of_the_source_archive(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            build = "import sys, build_backend as b; print(b.build_sdist(sys.argv[1]))"
            words = [sys.executable, "-c", build, folder]
            made = subprocess.run(words, cwd=PACKAGE, check=True, capture_output=True, text=True)
            archive = here / made.stdout.strip()
            python = fresh_python(here)
            self.run_in(here, python, "-m", "pip", "wheel", "--no-deps", str(archive))
            self.assertEqual(len(list(here.glob("*.whl"))), 1)

    def test_the_license_is_that_of_the_project(self) -> None:
        self.assertEqual((PACKAGE / "LICENSE").read_text(), (ROOT / "LICENSE").read_text())

    def run_in(self, folder: Path, *words: str) -> str:
        done = subprocess.run(words, cwd=folder, env=OFFLINE, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout


if __name__ == "__main__":
    unittest.main()
