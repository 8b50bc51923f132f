/**
 * One connection, from HELLO to its end. A session begins with nothing: its state comes from the
 * node, or is made anew when there is none.
 *
 * @module
 */

import { Writer, crc32, GarbledError } from "./bytes.js";
import { LostError, SaidError } from "./dial.js";
import { Effects } from "./effects.js";
import { MAGIC, putFrame, readBlocks, Splitter, VERSION } from "./frames.js";
import { Machine, senderOf } from "./machine.js";
import { Outputs } from "./outputs.js";

/** At most this much waits for the handlers; then nothing more is read. */
const INBOX_BYTES_MAX = 64 << 20;

/** How long a program that is stopped waits for what it has said to go out. */
const LEAVING_MILLIS_MAX = 2_000;

/** A node that allows less is not taken at its word. */
const FRAME_BYTES_MIN = 1 << 10;

/** The program failed at this input. */
export class FaultError extends Error {
  /**
   * @param {number} input
   * @param {string} text
   */
  constructor(input, text) {
    super(text);
    this.input = input;
  }
}

/**
 * @typedef {object} Plan
 * @property {string} instance
 * @property {import("./program.js").Program<any>} program
 * @property {Buffer} initial the payload of the START input
 * @property {import("./impulses.js").Impulses} impulses
 */

export class Session {
  #plan;
  #socket;
  #outputs = new Outputs(FRAME_BYTES_MIN);
  /** @type {Machine | undefined} undefined before GENESIS or LOAD */
  #machine;
  /** The last input that was handled, or that is being handled. */
  #input = 0;
  /** @type {Effects | undefined} while this copy is the primary */
  #effects;
  /** It became the primary before its first input. */
  #primaryIsDue = false;
  /** It came as far as the end of replay: the program works. */
  caughtUp = false;

  /** Frames that were read and not handled. @type {{frame: import("./frames.js").Frame, length: number}[]} */
  #inbox = [];
  #inboxBytes = 0;
  #splitter = new Splitter();
  /** @type {Error | undefined} nothing more comes after the inbox */
  #over;
  #wake = () => {};

  /**
   * @param {Plan} plan
   * @param {import("node:net").Socket} socket
   */
  constructor(plan, socket) {
    this.#plan = plan;
    this.#socket = socket;
  }

  /**
   * Runs until the connection ends.
   *
   * @param {Buffer} head what came with the answer to an upgrade
   * @returns {Promise<Error>} why it ended
   */
  async run(head) {
    const { impulses } = this.#plan;
    this.#listen(head);
    impulses.connected({ write: (frame) => this.#write(frame), end: () => this.#leave() });
    try {
      await this.#serve();
      throw new LostError("the session is over");
    } catch (error) {
      if (error instanceof FaultError)
        this.#write({ type: "FAULT", input: this.#input, text: error.message });
      return error instanceof Error ? error : new Error(String(error));
    } finally {
      this.#effects?.end();
      this.#socket.end();
      this.#socket.destroySoon();
      impulses.disconnected();
    }
  }

  /** Closes the connection when all that was said is on its way, however little the node reads. */
  #leave() {
    this.#socket.destroySoon();
    setTimeout(() => this.#socket.destroy(), LEAVING_MILLIS_MAX).unref();
  }

  /** @param {Buffer} head */
  #listen(head) {
    const socket = this.#socket;
    socket.on("data", (bytes) => this.#read(/** @type {Buffer} */ (bytes)));
    socket.on("error", (error) =>
      this.#end(new LostError(`the connection to the node broke: ${error.message}`)),
    );
    socket.on("close", () => this.#end(new LostError("the node has closed the connection")));
    if (head.length > 0) this.#read(head);
  }

  /** @param {Error} why */
  #end(why) {
    this.#over ??= why;
    this.#wake();
  }

  /**
   * What has to be quick is done at once: a PING is answered, the fate of an impulse told.
   *
   * @param {Buffer} bytes
   */
  #read(bytes) {
    if (this.#over !== undefined) return;
    try {
      this.#splitter.add(bytes);
      for (let next = this.#splitter.next(); next !== undefined; next = this.#splitter.next()) {
        this.#sort(next);
      }
    } catch (error) {
      if (!(error instanceof GarbledError)) throw error;
      this.#end(new LostError(`the node sent garbage: ${error.message}`));
    }
    if (this.#inboxBytes >= INBOX_BYTES_MAX) this.#socket.pause();
    this.#wake();
  }

  /** @param {{frame: import("./frames.js").Frame, length: number}} next */
  #sort(next) {
    const { frame, length } = next;
    const { impulses } = this.#plan;
    if (frame.type === "PING") return this.#write({ type: "PONG", number: frame.number });
    if (frame.type === "FATE") return impulses.told(frame);
    if (frame.type === "CREDIT") return impulses.credit(frame);
    if (frame.type === "WELCOME") {
      this.#splitter.frameBytesMax = Math.max(frame.frameBytesMax, FRAME_BYTES_MIN);
    }
    this.#inbox.push(next);
    this.#inboxBytes += length;
  }

  /** @returns {Promise<import("./frames.js").Frame>} */
  async #next() {
    for (;;) {
      const next = this.#inbox.shift();
      if (next !== undefined) {
        this.#inboxBytes -= next.length;
        if (this.#inboxBytes < INBOX_BYTES_MAX && this.#socket.isPaused()) this.#socket.resume();
        if (next.frame.type === "ERROR") throw new SaidError(next.frame.code, next.frame.text);
        return next.frame;
      }
      if (this.#over !== undefined) throw this.#over;
      await new Promise((resolve) => {
        this.#wake = () => resolve(undefined);
      });
    }
  }

  /** @param {import("./frames.js").Frame} frame */
  #write(frame) {
    if (!this.#socket.writable) return;
    const out = new Writer();
    putFrame(out, frame);
    this.#socket.write(out.take());
  }

  /** Writes all that was said, and waits while the node does not take it. */
  async #flush() {
    const bytes = this.#outputs.take();
    if (bytes.length === 0 || !this.#socket.writable) return;
    if (this.#socket.write(bytes)) return;
    await new Promise((resolve) => {
      const done = () => {
        this.#socket.off("drain", done);
        this.#socket.off("close", done);
        resolve(undefined);
      };
      this.#socket.on("drain", done);
      this.#socket.on("close", done);
    });
  }

  async #serve() {
    const { instance, program } = this.#plan;
    const upgradeTo = program.upgrade?.to.number ?? program.number;
    const versions = { programVersion: program.number, upgradeTo };
    this.#write({
      type: "HELLO",
      magic: MAGIC,
      versionMin: VERSION,
      versionMax: VERSION,
      instance,
      ...versions,
    });
    const welcome = await this.#next();
    if (welcome.type !== "WELCOME") throw unexpected(welcome);
    if (welcome.version !== VERSION)
      throw new LostError(`the node wants to speak version ${welcome.version}`);
    this.#outputs = new Outputs(Math.max(welcome.frameBytesMax, FRAME_BYTES_MIN));
    for (;;) await this.#handle(await this.#next());
  }

  /** @param {import("./frames.js").Frame} frame */
  async #handle(frame) {
    switch (frame.type) {
      case "DELIVER":
        return this.#deliver(frame);
      case "GENESIS":
        return this.#genesis();
      case "LOAD":
        return this.#load(frame);
      case "TAKE_CHECKPOINT":
        return this.#checkpoint(frame.request);
      case "END_OF_REPLAY":
        this.caughtUp = true;
        return undefined;
      case "PRIMARY":
        return this.#primary();
      case "STANDBY":
        return this.#standby();
      default:
        throw unexpected(frame);
    }
  }

  /** The first state. What cannot be read back the same would be found out after the first crash. */
  async #genesis() {
    const { program, initial } = this.#plan;
    this.#input = 0;
    this.#machine = this.#guarded(() => {
      const machine = Machine.fresh(program);
      const saved = machine.save();
      if (!saved.equals(Machine.load(saved, program).save())) {
        throw new Error("the first state, saved and loaded, is another one");
      }
      return machine;
    });
    if (initial.length > 0) this.#outputs.frame({ type: "INITIAL", payload: initial });
    await this.#checkpoint(0);
  }

  /** @param {import("./frames.js").Frame} frame */
  async #load({ input, bytes }) {
    this.#input = input;
    const wasPrimary = this.#effects !== undefined;
    this.#effects?.end();
    this.#effects = undefined;
    const chunks = [];
    let left = bytes;
    for (;;) {
      const frame = await this.#next();
      if (frame.type === "LOADED" && frame.bytes.length <= left) {
        left -= frame.bytes.length;
        chunks.push(frame.bytes);
        continue;
      }
      if (frame.type !== "LOAD_END" || left > 0) throw unexpected(frame);
      this.#loaded(Buffer.concat(chunks), frame.crc);
      if (wasPrimary) this.#beginEffects();
      return;
    }
  }

  /**
   * @param {Buffer} bytes
   * @param {number} crc
   */
  #loaded(bytes, crc) {
    this.#machine = this.#guarded(() => {
      const found = crc32(bytes);
      if (found !== crc) {
        throw new Error(
          `the checkpoint is damaged: its checksum is ${found.toString(16)} and should be ${crc.toString(16)}`,
        );
      }
      return Machine.load(bytes, this.#plan.program);
    });
  }

  /** @param {number} request */
  async #checkpoint(request) {
    const machine = this.#theMachine();
    this.#outputs.frame({ type: "CHECKPOINT", request });
    const bytes = this.#guarded(() => machine.save());
    for (let at = 0; at < bytes.length; at += this.#outputs.chunkBytes) {
      this.#outputs.frame({
        type: "CHUNK",
        bytes: bytes.subarray(at, at + this.#outputs.chunkBytes),
      });
      await this.#flush();
    }
    this.#outputs.frame({ type: "CHECKPOINT_END", crc: crc32(bytes) });
    await this.#flush();
  }

  /** Only after START: before it there is nothing that a program could go by. */
  #primary() {
    this.#primaryIsDue = this.#input === 0;
    if (this.#primaryIsDue) return;
    const { impulses } = this.#plan;
    impulses.setPrimary(true);
    this.#beginEffects();
    const { program, state } = this.#theMachine();
    this.#guarded(() => program.becamePrimary(state, impulses));
  }

  #standby() {
    this.#primaryIsDue = false;
    this.#plan.impulses.setPrimary(false);
    this.#effects?.end();
    this.#effects = undefined;
    const { program, state } = this.#theMachine();
    this.#guarded(() => program.becameStandby(state));
  }

  /** Does all that is awaited and has no result, also what another primary may have done already. */
  #beginEffects() {
    const machine = this.#theMachine();
    const write = (/** @type {import("./frames.js").Frame} */ frame) => this.#write(frame);
    this.#effects = new Effects(this.#plan.instance, this.#outputs.frameBytesMax, write);
    for (const job of machine.allEffects()) this.#effects.begin(machine.program, job);
  }

  /** @param {import("./frames.js").Frame} frame */
  async #deliver({ first, time, blocks }) {
    const machine = this.#theMachine();
    if (first !== this.#input + 1) {
      throw new FaultError(this.#input, `input ${this.#input + 1} was expected, and ${first} came`);
    }
    for (const block of readBlocks(blocks)) {
      const sender = senderOf(block);
      for (const message of block.messages) {
        this.#input += 1;
        const place = { me: this.#plan.instance, input: this.#input, time, sender };
        this.#guarded(() => machine.message(place, this.#outputs, message));
      }
    }
    this.#outputs.frame({ type: "DONE", input: this.#input });
    await this.#flush();
    for (const job of machine.takeEffects()) this.#effects?.begin(machine.program, job);
    if (this.#primaryIsDue) this.#primary();
    // So that sockets are read in between, and a PING is answered also in a long replay.
    await new Promise((resolve) => setImmediate(resolve));
  }

  /**
   * Runs what may fail; that is a fault at the input that stands.
   *
   * @template T
   * @param {() => T} work
   * @returns {T}
   */
  #guarded(work) {
    try {
      return work();
    } catch (error) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      throw new FaultError(this.#input, text);
    }
  }

  #theMachine() {
    if (this.#machine === undefined)
      throw new LostError("the node sent something before the program has a state");
    return this.#machine;
  }
}

/** @param {import("./frames.js").Frame} frame */
function unexpected(frame) {
  return new LostError(`the node sent something that has no place here: ${frame.type}`);
}
