"""Real nodes for tests.

    with amrita.testing.cluster() as cluster:
        client = cluster.client()
        cluster.kill(0)            # SIGKILL
        cluster.start(0)

The program is `$AMRITA_BINARY`, or `amrita` on the PATH, or what was built last under
`target/release` or `target/debug` of a folder above. Nodes keep their data in a temporary folder,
which is removed at the end, and never outlive the process that started them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, Optional, Sequence, TypeVar

from .client import AsyncClient, Client
from .errors import AmritaError

T = TypeVar("T")

#: How long something that takes milliseconds may take on a machine that is busy.
PATIENCE_SECONDS = 60.0

#: Between two looks while something is awaited.
LOOK_AGAIN_SECONDS = 0.02

#: How long a node may take to end after it was asked to.
END_SECONDS_MAX = 15.0


def binary() -> str:
    """The program `amrita`."""
    named = os.environ.get("AMRITA_BINARY")
    if named:
        if not os.access(named, os.X_OK):
            raise AmritaError(f"AMRITA_BINARY is {named}, which is no program")
        return named
    found = shutil.which("amrita")
    if found:
        return found
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            target = Path(os.environ.get("CARGO_TARGET_DIR") or folder / "target")
            built = [target / kind / "amrita" for kind in ("release", "debug")]
            there = [one for one in built if os.access(one, os.X_OK)]
            if there:
                return str(max(there, key=lambda one: one.stat().st_mtime))
    raise AmritaError(
        "the program amrita is not found: set AMRITA_BINARY to it, or put it on the PATH"
    )


def free_ports(count: int) -> List[int]:
    """Ports that nobody has at the moment."""
    taken = [socket.socket() for _ in range(count)]
    try:
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]
    finally:
        for one in taken:
            one.close()


def wait_for(
    what: str, look: Callable[[], Optional[T]], seconds: float = PATIENCE_SECONDS
) -> T:
    """Looks again and again until there is something that is neither None nor False."""
    deadline = time.monotonic() + seconds
    why: Optional[Exception] = None
    while time.monotonic() < deadline:
        try:
            found = look()
            if found is not None and found is not False:
                return found
        except (AmritaError, OSError) as error:
            why = error
        time.sleep(LOOK_AGAIN_SECONDS)
    raise AssertionError(f"waited {seconds} s in vain for {what}" + (f": {why}" if why else ""))


class Node:
    """One node of a cluster under test."""

    def __init__(self, name: str, port: int, folder: Path, scheme: str) -> None:
        self.name = name
        self.port = port
        self.address = f"{scheme}://127.0.0.1:{port}"
        self.sandbox = folder / name
        self.log_file = folder / f"{name}.log"
        self.process: Optional[subprocess.Popen[bytes]] = None

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """All that it said since the test began."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""


class Cluster:
    """Nodes on this machine; see `cluster()`."""

    def __init__(
        self,
        nodes: int,
        folder: Path,
        flags: Sequence[str],
        scheme: str,
        client_options: Dict[str, Any],
    ) -> None:
        self.folder = folder
        self.flags = list(flags)
        self.client_options = client_options
        ports = free_ports(nodes)
        self.nodes = [
            Node(f"n{number + 1}", port, folder, scheme) for number, port in enumerate(ports)
        ]
        self._programs: List[Program] = []

    @property
    def addresses(self) -> List[str]:
        return [node.address for node in self.nodes]

    def client(self, **options: Any) -> Client:
        """A client that knows all nodes."""
        return Client(self.addresses, **{**self.client_options, **options})

    def async_client(self, **options: Any) -> AsyncClient:
        return AsyncClient(self.addresses, **{**self.client_options, **options})

    def start(self, which: int) -> None:
        """Starts a node, or starts it again with what it has."""
        node = self.nodes[which]
        arguments = [binary(), "node", "--id", node.name, "--port", str(node.port)]
        arguments += ["--sandbox", str(node.sandbox), "--stop-with-stdin"]
        if len(self.nodes) > 1:
            arguments += ["--peer-nodes", ",".join(self.addresses)]
        with open(node.log_file, "ab") as log:
            node.process = subprocess.Popen(
                arguments + [flag.replace("{node}", node.name) for flag in self.flags],
                # It stops when this end of the pipe is closed, and so with this process.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def kill(self, which: int) -> None:
        """SIGKILL."""
        process = self._process(which)
        process.kill()
        _end(process)

    def pause(self, which: int) -> None:
        """SIGSTOP: it is there, and does nothing until `go_on`."""
        self._process(which).send_signal(signal.SIGSTOP)

    def go_on(self, which: int) -> None:
        self._process(which).send_signal(signal.SIGCONT)

    def stop(self, which: int) -> None:
        """Asks the node to stop in good order, and waits until it has."""
        process = self._process(which)
        process.send_signal(signal.SIGTERM)
        _end(process)

    def wait_until_ready(self) -> None:
        """Waits until every node that runs serves."""
        for node in self.nodes:
            if node.is_up:
                self._wait_for_node(node)

    def owner_of(self, link: str) -> int:
        """Which node owns a document."""
        body = {"key": link}
        with self.client() as client:
            answer = client.request("POST", "/core/node-selectors/default", body).body
        names = [node.name for node in self.nodes]
        return names.index(answer["ownerNodeId"])

    def program(self, arguments: Sequence[str], **options: Any) -> "Program":
        """Starts a program that ends with the cluster."""
        program = Program(arguments, **options)
        self._programs.append(program)
        return program

    def close(self) -> None:
        """Ends everything."""
        for program in self._programs:
            program.kill()
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()
                _end(node.process)

    def _process(self, which: int) -> "subprocess.Popen[bytes]":
        process = self.nodes[which].process
        if process is None or process.poll() is not None:
            raise AmritaError(f"node {self.nodes[which].name} does not run")
        return process

    def _wait_for_node(self, node: Node) -> None:
        options = {"patience": 5.0, **self.client_options}
        with Client([node.address], **options) as client:

            def is_ready() -> bool:
                if not node.is_up:
                    raise AssertionError(f"{node.name} has ended:\n{node.log()[-2000:]}")
                return client.request("GET", "/readyz").status == 200

            try:
                wait_for(f"{node.name} to serve", is_ready)
            except AssertionError as why:
                raise AssertionError(f"{why}\n{node.log()[-2000:]}") from None


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.wait(END_SECONDS_MAX)
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


@contextlib.contextmanager
def cluster(
    nodes: int = 3,
    *,
    flags: Sequence[str] = (),
    wait: bool = True,
    scheme: str = "http",
    **client_options: Any,
) -> Iterator[Cluster]:
    """A cluster of real nodes, ready to be used. `flags` are more flags of `amrita node` (in them,
    `{node}` stands for the node's name); `client_options` are those of its clients."""
    with tempfile.TemporaryDirectory(prefix="amrita-") as folder:
        made = Cluster(nodes, Path(folder), flags, scheme, client_options)
        try:
            for which in range(nodes):
                made.start(which)
            if wait:
                made.wait_until_ready()
            yield made
        finally:
            made.close()


def _takes_interrupts() -> None:
    """A program that was started in the background by a shell ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Program:
    """A process of a test, with the lines that it writes. A first argument that ends with `.py` is
    run with this Python, and finds this package."""

    def __init__(self, arguments: Sequence[str], **options: Any) -> None:
        command = [str(one) for one in arguments]
        if command[0].endswith(".py"):
            command = [sys.executable, *command]
        environment = {**os.environ, **options.pop("env", {})}
        source = str(Path(__file__).resolve().parent.parent)
        paths = [source, environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        self.lines: "queue.Queue[Optional[str]]" = queue.Queue()
        #: All lines that were written so far.
        self.said: List[str] = []
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            bufsize=1,
            preexec_fn=_takes_interrupts,
            **options,
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self.said.append(line.rstrip("\n"))
            self.lines.put(self.said[-1])
        self.lines.put(None)

    def line(self, with_text: str = "", seconds: float = PATIENCE_SECONDS) -> str:
        """The next line that has this text in it."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                said = "\n".join(self.said[-30:])
                raise AssertionError(f"the program does not say '{with_text}'; it said\n{said}")
            if with_text in line:
                return line

    def says(self, text: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Waits until there is a line with this text, among all that were written."""

        def look() -> Optional[str]:
            return next((line for line in list(self.said) if text in line), None)

        try:
            return wait_for(f"the line '{text}'", look, seconds)
        except AssertionError as why:
            raise AssertionError(f"{why}; it said\n" + "\n".join(self.said[-30:])) from None

    def type(self, text: str = "") -> None:
        """Types a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    @property
    def is_up(self) -> bool:
        return self.process.poll() is None

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Waits until it ends, and gives its exit code."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(END_SECONDS_MAX)
        self._reader.join(END_SECONDS_MAX)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
