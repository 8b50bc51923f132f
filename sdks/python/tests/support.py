"""What the tests share."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Tuple

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent
EXAMPLES = PACKAGE / "examples"
ROOT = PACKAGE.parent.parent


def ask(url: str, body: Any = None, seconds: float = 30) -> Tuple[int, Any]:
    """Status and body of an answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=seconds) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as why:
        with why:
            return why.code, json.loads(why.read())
