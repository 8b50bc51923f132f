"""What the tests share."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

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


BREAK, SILENCE = object(), object()


class Scripted:
    """A node that answers each request with the next word of its script: a status and a body, pieces
    of bytes as they are, an end of the connection after the request was read, or silence."""

    def __init__(self, *script: Any) -> None:
        self.script = list(script)
        self.asked: List[Tuple[str, Dict[str, str]]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connected, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connected,), daemon=True).start()

    def _talk(self, connected: socket.socket) -> None:
        with connected, connected.makefile("rb") as file:
            while True:
                line = file.readline()
                if not line:
                    return
                headers = {}
                for header in iter(file.readline, b"\r\n"):
                    name, _, value = header.decode("latin-1").partition(":")
                    headers[name] = value.strip()
                file.read(int(headers.get("content-length", 0)))
                self.asked.append((line.decode("latin-1").strip(), headers))
                word = self.script.pop(0) if self.script else BREAK
                if word is BREAK:
                    return
                if word is SILENCE:
                    threading.Event().wait(30)
                    return
                try:
                    if isinstance(word, list):
                        for piece in word:
                            connected.sendall(piece)
                            time.sleep(0.01)
                        return
                    connected.sendall(self.answer(word))
                except OSError:
                    return

    def answer(self, word: Any) -> bytes:
        """The bytes of an answer."""
        status, body = word
        data = json.dumps(body, ensure_ascii=False).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n\r\n".encode()
        return head + data

    def keys(self) -> List[Optional[str]]:
        return [headers.get("idempotency-key") for _, headers in self.asked]
