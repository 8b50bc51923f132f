// Hello World with programs that do not die: a server, and three clients. What
// docs/tutorial-hello.md does with the programs in Rust, works with these, too:
//
//     node examples/hello.js server --node data/n1 [--numbers]     # a copy beside each node
//     node examples/hello.js client1 --node data/n1                # waits for Enter
//     node examples/hello.js client2 --node data/n2                # sends what you type
//     node examples/hello.js client3 --node data/n3                # sends when it was acknowledged
//     node examples/hello.js numbers --node data/n1                # keeps sending
//
// (The copies of one instance must be one program: a checkpoint of the Rust server is nothing for
// this one.) None of them has a line about failures.
// @ts-check
import { createInterface } from "node:readline";

import { contract, integer, main, method, program, text } from "@amrita/sdk/immortal";

const Server = contract({
  receiveMessage: method(1, text),
  /** From now on this client is told of each of its messages. Gives the number of messages so far. */
  addRespondee: method(2, text),
});
const Respondee = contract({ responseFromServer: method(1, integer) });
const Keyboard = contract({ enterPressed: method(1) });
const Lines = contract({ line: method(1, text) });
const Stop = contract({ stop: method(9) });

const server = Server.at("server");
const say = (/** @type {string} */ line) => process.stdout.write(`${line}\n`);
const hello = (/** @type {number} */ number) => `\n!! Client: Hello World ${number}!`;

const programs = {
  server: program("server", () => ({
    messages: 0,
    respondees: /** @type {string[]} */ ([]),
  })).handles(Server, {
    receiveMessage(state, context, message) {
      state.messages += 1;
      const isShort = process.argv.includes("--numbers");
      const { name } = context.sender;
      say(
        isShort
          ? `#${state.messages} ${name}: ${message.trimStart()}`
          : `\n!! SERVER Received message from a client: ${message}`,
      );
      if (state.respondees.includes(name))
        Respondee.at(name).responseFromServer(state.messages).fork(context);
    },
    addRespondee(state, _, client) {
      state.respondees.push(client);
      return state.messages;
    },
  }),

  client1: program("client1", () => ({ sent: 0 }))
    .onStart(sendNext)
    .handles(Keyboard, {
      enterPressed(state, context) {
        // Enter may come twice, when nobody knew whether the first was logged.
        if (state.sent !== 1) return;
        sendNext(state, context);
        sendNext(state, context);
      },
    })
    // The key is not awaited in a handler. Enter is an input like any other: the primary hands it
    // in as an impulse, and every copy learns of it at the same place in its life.
    .onPrimary((state, impulses) => void client1Keyboard(state.sent, impulses)),

  client2: program("client2", () => ({}))
    .handles(Lines, {
      line(_, context, line) {
        say(`Sending keyboard input ${line}`);
        server.receiveMessage(line).fork(context);
      },
    })
    .onPrimary((_, impulses) => void client2Keyboard(impulses)),

  client3: program("client3", () => ({ sent: 0 }))
    .onStart((_, context) => void server.addRespondee(context.me).call(context, "added"))
    .next({
      added: (state, context) => sendNext(state, context),
      over() {},
    })
    .handles(Respondee, {
      responseFromServer(state, context, messages) {
        say(
          `\n!! Client: Message #${state.sent} completed. Server acknowledges processing ${messages} messages.`,
        );
        if (state.sent < 3) return sendNext(state, context);
        say("\n!! Client: Shutting down");
        context.effect("shutDown", null, "over");
      },
    })
    // Its result is never logged: a client that has shut down and is started again shuts down again.
    .effects({ shutDown: async () => process.exit(0) }),

  numbers: program("client", () => ({ sent: 0, isOver: false }))
    .onStart((_, context) => void server.addRespondee(context.me).call(context, "added"))
    .next({ added: sendNumber })
    .handles(Respondee, {
      responseFromServer(state, context, messages) {
        say(
          `Message #${state.sent} completed. Server acknowledges processing ${messages} messages.`,
        );
        if (state.isOver) say(`Sent ${state.sent} messages in all.`);
        else sendNumber(state, context);
      },
    })
    .handles(Stop, { stop: (state) => void (state.isOver = true) }),
};

/**
 * @param {{sent: number}} state
 * @param {import("@amrita/sdk/immortal").Context} context
 */
function sendNext(state, context) {
  state.sent += 1;
  server.receiveMessage(hello(state.sent)).fork(context);
  say(`\n!! Client: Sent message ${state.sent}.`);
}

/**
 * @param {{sent: number}} state
 * @param {import("@amrita/sdk/immortal").Context} context
 */
function sendNumber(state, context) {
  state.sent += 1;
  server.receiveMessage(`Number ${state.sent}!`).fork(context);
}

/** There is one keyboard, so it is read once; it stays when the connection to the node is made anew. */
let isReading = false;
const keyboard = createInterface({ input: process.stdin, terminal: false })[Symbol.asyncIterator]();
const nextLine = async () => {
  const { value, done } = await keyboard.next();
  return done ? undefined : /** @type {string} */ (value);
};

/**
 * @param {number} sent
 * @param {import("@amrita/sdk/immortal").Impulses} impulses
 */
async function client1Keyboard(sent, impulses) {
  if (isReading) return;
  isReading = true;
  if (sent === 1) {
    say("\n!! Client: Press enter to continue (will send 2&3)");
    if ((await nextLine()) === undefined) return;
    await impulses.sendUntilLogged(Keyboard.me().enterPressed());
  }
  say("\n!! Client: Press enter to shutdown.");
  if ((await nextLine()) !== undefined) impulses.stop();
}

/** @param {import("@amrita/sdk/immortal").Impulses} impulses */
async function client2Keyboard(impulses) {
  if (isReading) return;
  isReading = true;
  say("Enter a message (hit ENTER to send, send an empty line to end): ");
  for (let line = await nextLine(); line !== undefined; line = await nextLine()) {
    if (line === "") return impulses.stop();
    const fate = await impulses.sendUntilLogged(Lines.me().line(line));
    if (fate.kind === "unknown") say(`It is not known whether this was logged: ${line}`);
  }
}

const wanted = Object.entries(programs).find(([name]) => name === process.argv[2]);
if (wanted === undefined) {
  console.error(
    `usage: node hello.js ${Object.keys(programs).join("|")} [--node ADDRESS-OR-SANDBOX] [--instance NAME]`,
  );
  process.exit(2);
}
await main(/** @type {import("@amrita/sdk/immortal").Program<any>} */ (wanted[1]));
keyboard.return?.();
process.stdin.destroy();
