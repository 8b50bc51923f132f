#!/usr/bin/env python3
"""Hello World with programs that do not die: a server and three clients, as `amrita example` has
them. They speak with those in Rust.

    amrita up &
    for i in server client1 client2 client3; do amrita immortal register $i; done
    python3 hello.py server --node http://127.0.0.1:8001       # one beside each node
    python3 hello.py client1
"""

import os
import sys
import threading
from dataclasses import dataclass, field
from typing import List

from amrita import immortal
from amrita.immortal import Context, Immortal, Impulses, Interface, Outcome, method

_keyboard = threading.Lock()
NUMBERS = "--numbers" in sys.argv


def say(line: str) -> None:
    """Every copy says it, and replay says it again: it is for people, and no part of the state."""
    print(line, flush=True)


class Respondee(Interface):
    @method(1)
    def response_from_server(self, context: Context, messages: int) -> None:
        """A client that wants to be told."""


@dataclass
class Server(Immortal):
    """Counts and shows the messages that it gets. Run it on three nodes and kill what you like."""

    messages: int = 0
    respondees: List[str] = field(default_factory=list)

    @method(1)
    def receive_message(self, context: Context, message: str) -> None:
        self.messages += 1
        sender = context.sender.name
        if NUMBERS:
            say(f"#{self.messages} {sender}: {message.lstrip()}")
        else:
            say(f"\n!! SERVER Received message from a client: {message}")
        if sender in self.respondees:
            Respondee.at(sender).response_from_server(self.messages).fork(context)

    @method(2)
    def add_respondee(self, context: Context, client: str) -> int:
        self.respondees.append(client)
        return self.messages


SERVER = Server.at("server")


@dataclass
class Client1(Immortal):
    """Sends a message, waits for Enter, and sends two more. Kill it at the prompt and start it
    again: the prompt comes back, and the server gets three messages in all."""

    sent: int = 0

    def send_next(self, context: Context) -> None:
        self.sent += 1
        SERVER.receive_message(f"\n!! Client: Hello World {self.sent}!").fork(context)
        say(f"\n!! Client: Sent message {self.sent}.")

    def start(self, context: Context) -> None:
        self.send_next(context)

    @method(1)
    def enter_pressed(self, context: Context) -> None:
        # Enter may come twice, when nobody knew whether the first was logged.
        if self.sent == 1:
            self.send_next(context)
            self.send_next(context)

    def primary(self, impulses: Impulses) -> None:
        # The key is an input like any other: a thread beside the primary hands it in.
        with_keyboard(self.keyboard, impulses, self.sent)

    @staticmethod
    def keyboard(impulses: Impulses, sent: int) -> None:
        while sent == 1:
            say("\n!! Client: Press enter to continue (will send 2&3)")
            if not sys.stdin.readline():
                return
            if Client1.me().enter_pressed().impulse(impulses).logged:
                break
            say("\n!! Client: It is not known to be logged.")
        say("\n!! Client: Press enter to shutdown.")
        if sys.stdin.readline():
            impulses.stop()


@dataclass
class Client2(Immortal):
    """Sends what is typed. A line is an impulse: once it is logged it is sent, whatever dies."""

    @method(1)
    def receive_keyboard_input(self, context: Context, line: str) -> None:
        say(f"Sending keyboard input {line}")
        SERVER.receive_message(line).fork(context)

    def primary(self, impulses: Impulses) -> None:
        say("Finished initializing state/recovering")
        with_keyboard(self.keyboard, impulses)

    @staticmethod
    def keyboard(impulses: Impulses) -> None:
        say("Enter a message (hit ENTER to send, send an empty line to end): ")
        for line in sys.stdin:
            if not line.strip():
                return impulses.stop()
            while True:
                fate = Client2.me().receive_keyboard_input(line.rstrip("\n")).impulse(impulses)
                if not fate.lost:
                    break
                # Surely not logged: again, when there is somebody to take it.
                impulses.wait_until_primary(1)
                threading.Event().wait(0.01)
            if fate.unknown:
                say(f"It is not known whether this was logged: {line}")


@dataclass
class Client3(Immortal):
    """Asks the server to be told of its messages, and sends the next one when the one before is
    acknowledged."""

    sent: int = 0

    def start(self, context: Context) -> None:
        SERVER.add_respondee(context.me).call(context, then=self.added)

    def added(self, context: Context, outcome: Outcome) -> None:
        if outcome.is_error:
            say(f"\n!! Client: The server refuses: {outcome.error}")
        else:
            self.send_next(context)

    def send_next(self, context: Context) -> None:
        self.sent += 1
        SERVER.receive_message(f"\n!! Client: Hello World {self.sent}!").fork(context)
        say(f"\n!! Client: Sent message #{self.sent}.")

    @method(1)
    def response_from_server(self, context: Context, messages: int) -> None:
        done = f"Message #{self.sent} completed."
        say(f"\n!! Client: {done} Server acknowledges processing {messages} messages.")
        if self.sent < 3:
            self.send_next(context)
        else:
            say("\n!! Client: Shutting down")
            context.effect(self.shut_down, then=self.over)

    @staticmethod
    def shut_down() -> None:
        """Ends the process of the primary. Its result is never logged: started again, it shuts down
        again."""
        sys.stdout.flush()
        os._exit(0)

    def over(self, context: Context, outcome: Outcome) -> None:
        """Never comes."""


def with_keyboard(work, *arguments) -> None:  # type: ignore[no-untyped-def]
    """There is one keyboard, so one thread reads it, also when the connection is made anew."""
    if _keyboard.acquire(blocking=False):
        threading.Thread(target=work, args=arguments, daemon=True).start()


PROGRAMS = {"server": Server, "client1": Client1, "client2": Client2, "client3": Client3}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in PROGRAMS:
        names = "|".join(PROGRAMS)
        sys.exit(f"usage: hello.py {names} [--node NODE] [--instance NAME] [--numbers]")
    options = [one for one in sys.argv[2:] if one != "--numbers"]
    sys.exit(immortal.main(PROGRAMS[name], name, options))
