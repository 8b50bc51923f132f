#!/usr/bin/env python3
"""The Hello World server in plain Python, with no binding: all of the protocol that a server needs.

    server.py --node http://127.0.0.1:8000 --instance server [--numbers]

The page that it follows is api/immortal-protocol.md. It does what examples/hello/src/bin/hello-server.rs
does; but the copies of one instance must be one program: a checkpoint of one is nothing for the other.
"""
import json, os, socket, struct, sys, time, zlib
from urllib.parse import urlsplit

HELLO, SEND, DONE, CHECKPOINT, CHUNK, CHECKPOINT_END, PONG, FAULT = 1, 2, 5, 8, 9, 10, 13, 14
WELCOME, GENESIS, LOAD, LOADED_CHUNK, LOAD_END, DELIVER = 0x81, 0x82, 0x83, 0x84, 0x85, 0x86
TAKE_CHECKPOINT, PING, ERROR = 0x8A, 0x8D, 0xFF
CHUNK_BYTES = 32 << 10


def n(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def z(number):
    return n(number << 1 if number >= 0 else (-number << 1) - 1)


def b(data):
    return n(len(data)) + data


class Take:
    """Takes one thing after the other from the front of some bytes."""
    def __init__(self, data): self.data, self.at = data, 0
    def more(self): return self.at < len(self.data)
    def rest(self): return self.take(len(self.data) - self.at)
    def z(self): number = self.n(); return number >> 1 ^ -(number & 1)
    def b(self): return self.take(self.n())
    def s(self): return self.b().decode()
    def take(self, count):
        if self.at + count > len(self.data): raise ValueError("a frame is cut short")
        self.at += count
        return self.data[self.at - count:self.at]
    def n(self):
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80: return number
            shift += 7


class Server:
    """The program: its state, and what it does with a message."""
    def __init__(self): self.state = {"messages": 0, "respondees": []}
    def save(self): return json.dumps(self.state).encode()
    def load(self, data): self.state = json.loads(data)

    def handle(self, sender, method, arguments, fork):
        if method == 1:
            self.state["messages"] += 1
            count, text = self.state["messages"], arguments[0]
            print(f"#{count} {sender}: {text.lstrip()}" if "--numbers" in sys.argv
                  else f"\n!! SERVER Received message from a client: {text}", flush=True)
            if sender in self.state["respondees"]:
                fork(sender, 1, [count])
        elif method == 2:
            self.state["respondees"].append(arguments[0])
            return self.state["messages"]
        else:
            raise ValueError(f"there is no method {method}")


class Session:
    """One connection: begins with nothing, and goes on until it ends."""
    def __init__(self, node, instance):
        self.server, self.instance, self.input = Server(), instance, 0
        self.socket = connect(node, instance)
        self.file = self.socket.makefile("rb")
        self.say(HELLO, b(b"amrita-immortal") + n(1) + n(1) + b(instance.encode()) + n(0) + n(0))

    def say(self, kind, body=b""):
        self.socket.sendall(struct.pack("<IB", len(body) + 1, kind) + body)

    def run(self):
        loaded = b""
        while head := self.file.read(4):
            frame = self.file.read(struct.unpack("<I", head)[0])
            kind, body = frame[0], Take(frame[1:])
            if kind == GENESIS: self.checkpoint(0)
            elif kind == LOAD: self.input, loaded = body.n(), b""
            elif kind == LOADED_CHUNK: loaded += body.rest()
            elif kind == LOAD_END:
                if struct.pack("<I", zlib.crc32(loaded)) != body.take(4):
                    self.say(FAULT, n(self.input) + b(b"the checkpoint is damaged"))
                    return
                self.server.load(loaded)
            elif kind == DELIVER: self.deliver(body)
            elif kind == TAKE_CHECKPOINT: self.checkpoint(body.n())
            elif kind == PING: self.say(PONG, n(body.n()))
            elif kind == ERROR:
                code, text = body.s(), body.s()
                print(f"{code}: {text}", file=sys.stderr)
                if code not in ("RELOAD", "STOPPING", "ATTACHED"): sys.exit(1)
                return

    def checkpoint(self, request):
        state = self.server.save()
        self.say(CHECKPOINT, n(request))
        for at in range(0, len(state), CHUNK_BYTES): self.say(CHUNK, state[at:at + CHUNK_BYTES])
        self.say(CHECKPOINT_END, struct.pack("<I", zlib.crc32(state)))

    def deliver(self, body):
        body.n(), body.n()  # The number of the first input, and the time.
        while body.more():
            block_kind, sender, _first = body.take(1)[0], body.s(), body.n()
            _count, messages = body.n(), Take(body.b())
            while messages.more():
                self.message(sender, Take(messages.b()))
        self.say(DONE, n(self.input))

    def message(self, sender, message):
        self.input += 1
        kind = message.take(1)[0]
        if kind not in (0, 1, 3): return  # START, timers and the like are nothing for this program.
        call = message.n() if kind == 1 else None
        fork = lambda to, method, arguments: self.send(
            to, b"\0" + z(method) + json.dumps(arguments).encode())
        try:
            answer = self.server.handle(sender, message.z(), json.loads(message.rest()), fork)
            status, payload = (2, b"") if answer is None else (1, json.dumps(answer).encode())
        except (ValueError, LookupError, TypeError, AttributeError) as why:
            status, payload = 3, str(why).encode()
        if call is not None:
            self.send(sender, b"\2" + n(call) + bytes([status]) + payload)

    def send(self, to, message):
        self.say(SEND, b(to.encode()) + n(1) + b(message))


def connect(node, instance):
    if "://" not in node:
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(os.path.join(node, "immortals.sock") if os.path.isdir(node) else node)
        return connected
    host = urlsplit(node)
    connected = socket.create_connection((host.hostname, host.port or 80))
    connected.sendall(f"GET /core/immortals/{instance}/attach HTTP/1.1\r\nHost: {host.netloc}\r\n"
                      "Connection: Upgrade\r\nUpgrade: amrita-immortal\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connected.recv(1) or sys.exit("the node has closed the connection")
    return connected if b" 101 " in head else sys.exit(f"not attached: {head.splitlines()[0]}")


def option(name, default):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


if __name__ == "__main__":
    while True:
        try:
            Session(option("--node", "http://127.0.0.1:8000"), option("--instance", "server")).run()
        except OSError as why:
            print(f"{why}; trying again", file=sys.stderr)
        time.sleep(0.2)
