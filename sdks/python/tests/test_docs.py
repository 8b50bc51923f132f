"""`docs/python.md`: its files are written down as they stand, and its tests are run."""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Dict

from amrita import testing

from tests.support import PACKAGE, ROOT


def files() -> Dict[str, str]:
    text = (ROOT / "docs" / "python.md").read_text()
    found = re.findall(r"`([a-z_]+\.py)`[^`]*?\n\n```python\n(.*?)```", text, re.S)
    return dict(found)


class Docs(unittest.TestCase):
    def test_the_files_of_the_page_do_what_it_says(self) -> None:
        self.assertEqual(set(files()), {"shop.py", "test_shop.py", "till.py", "test_till.py"})
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files().items():
                (Path(folder) / name).write_text(text)
            environment = {
                **os.environ,
                "PYTHONPATH": str(PACKAGE / "src"),
                "AMRITA_BINARY": testing.binary(),
            }
            words = [sys.executable, "-m", "unittest", "-v"]
            done = subprocess.run(
                words, cwd=folder, env=environment, capture_output=True, text=True
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn("Ran 3 tests", done.stderr)


if __name__ == "__main__":
    unittest.main()
