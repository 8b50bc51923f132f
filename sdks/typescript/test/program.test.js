// Programs without a node: what a handler may do, what a checkpoint keeps, what is refused.
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  any,
  contract,
  Document,
  integer,
  list,
  method,
  optional,
  outcomeOfWrite,
  Play,
  program,
  record,
  Refused,
  text,
  whole,
  written,
} from "../src/immortal/index.js";
import { load, save } from "../src/immortal/state.js";

const Account = contract({
  deposit: method(1, whole),
  withdraw: method(2, whole),
  later: method(3),
  remind: method(4, integer),
  look: method(5, text),
});

const savings = () =>
  program("savings", () => ({ balance: 0n, log: new Map(), waiting: /** @type {any[]} */ ([]) }))
    .handles(Account, {
      deposit: (state, _, amount) => void (state.balance += amount),
      withdraw(state, _, amount) {
        if (amount > state.balance) throw new Refused("not so much is there");
        return (state.balance -= amount);
      },
      later: (state, context) => void state.waiting.push(context.reply()),
      remind: (_, context, millis) => void context.after(millis, "reminded", { at: context.now() }),
      look: (_, context, currency) => void context.effect("rate", { currency }, "looked", currency),
    })
    .next({
      reminded(state, context, _, kept) {
        state.log.set(context.input, kept.at);
        for (const reply of state.waiting.splice(0)) context.answer(reply, state.balance);
      },
      looked: (state, context, outcome, currency) =>
        void state.log.set(
          currency,
          outcome.isError ? outcome.error : [outcome.value(), context.random()],
        ),
    })
    .effects({ rate: async () => 0 });

const me = Account.me();

test("money stays where it is, whatever crashes", () => {
  const play = new Play(savings());
  play.fork("client", me.deposit(2n ** 60n + 1n));
  play.checkpoint();
  const call = play.call("client", me.withdraw(1n));
  play.crash();
  assert.equal(play.answerTo(call)?.value, 2n ** 60n);
  assert.equal(play.state.balance, 2n ** 60n);
  const tooMuch = play.call("client", me.withdraw(2n ** 61n));
  assert.equal(play.answerTo(tooMuch)?.error, "not so much is there");
  const later = play.call("client", me.later());
  assert.equal(play.answerTo(later), undefined);
  play.fork("client", me.remind(60_000));
  play.wait(59_000);
  assert.equal(play.answerTo(later), undefined);
  play.crash();
  play.wait(2_000);
  assert.equal(play.answerTo(later)?.value, 2n ** 60n);
  play.impulse(me.look("EUR"));
  const [{ id }] = play.effects;
  play.perform(id, 1.25);
  assert.equal(play.state.log.get("EUR")[0], 1.25);
  play.check();
});

test("a write to a document is a message, and what became of it an answer", () => {
  const Clerk = contract({ note: method(1, text) });
  const clerk = () =>
    program("clerk", () => ({ seen: /** @type {string[]} */ ([]) }))
      .handles(Clerk, {
        note(_, context, link) {
          const document = Document.at(link);
          document.post({ n: 1n }).fork(context);
          document.act("close").fork(context);
          document.delete().fork(context);
          document.patch({ n: 2n }).call(context, "noted", link);
        },
      })
      .next({
        noted(state, _, outcome, link) {
          try {
            state.seen.push(`${link} ${written(outcome).body.documentVersion}`);
          } catch (why) {
            state.seen.push(`${/** @type {Error} */ (why).message} ${outcomeOfWrite(outcome).status}`);
          }
        },
      });
  const play = new Play(clerk());
  const link = "/app/accounts/jane";
  play.fork("client", Clerk.at("clerk").note(link));
  const said = [...play.said];
  assert.deepEqual(
    said.map((it) => [it.to, Number(it.method), it.value]),
    [
      [link, 1, { n: 1 }],
      [`${link}/actions/close`, 5, {}],
      [link, 4, undefined],
      [link, 3, { n: 2 }],
    ],
  );
  play.answer(said[3], { status: 200, body: { documentVersion: 7 } });
  play.crash();
  play.fork("client", Clerk.at("clerk").note(link));
  play.answer(play.said[play.said.length - 1], {
    status: 404,
    body: { code: "NOT_FOUND", message: "it is gone" },
  });
  assert.deepEqual(play.state.seen, [`${link} 7`, "NOT_FOUND (404): it is gone 404"]);
  play.check();
  assert.throws(() => Document.at("jane"), /no link/);
});

test("a wrong message changes nothing, and its caller is told", () => {
  const play = new Play(savings());
  const wrong = (/** @type {number} */ number, /** @type {unknown[]} */ ...args) => {
    const message = Account.at("").deposit(1n);
    Object.assign(message, { method: number, payload: Buffer.from(JSON.stringify(args)) });
    return play.answerTo(play.call("client", message))?.error ?? "";
  };
  assert.match(wrong(77), /there is no method 77/);
  assert.match(wrong(1, "x"), /argument 1 of 'deposit' must be a whole number, not x/);
  assert.match(wrong(1), /must be a whole number, not missing/);
  assert.match(wrong(1, 1, 2), /has 1 arguments, and 2 came/);
  assert.match(wrong(1, 1.5), /must be a whole number, not 1.5/);
  assert.equal(play.state.balance, 0n);
  play.check();
});

test("what is not the same twice is found before a cluster finds it", () => {
  let hidden = 0;
  const forgetful = program("forgetful", () => ({ sum: 0 })).handles(Account, {
    deposit(state, context) {
      hidden += 1;
      Account.at("other").remind(hidden).fork(context);
      state.sum += 1;
    },
    withdraw() {},
    later() {},
    remind() {},
    look() {},
  });
  const play = new Play(forgetful);
  play.fork("client", me.deposit(1n));
  play.fork("client", me.deposit(1n));
  assert.throws(() => play.check(), /says something else than the first time/);
});

test("an async handler, an unknown next and a context that is kept are faults", () => {
  /** @type {any} */
  let kept;
  const wrong = program("wrong", () => ({})).handles(Account, {
    deposit: async () => {},
    withdraw: (_, context) => void context.after(5, "nowhere"),
    later: (_, context) => void (kept = context),
    remind() {},
    look() {},
  });
  const play = new Play(wrong);
  assert.throws(() => play.fork("client", me.deposit(1n)), /must not be async/);
  assert.throws(
    () => play.fork("client", me.withdraw(1n)),
    /nothing to go on with by the name 'nowhere'/,
  );
  play.fork("client", me.later());
  assert.throws(() => Account.at("x").deposit(1n).fork(kept), /good only while its handler runs/);
});

test("a program becomes its next version with its state, its timers and its effects", () => {
  const two = program("savings", () => ({ cents: 0n }))
    .version(2)
    .handles(Account, {
      deposit: (state, _, amount) => void (state.cents += amount * 100n),
      withdraw() {},
      later() {},
      remind() {},
      look() {},
    })
    .next({ reminded: (state) => void (state.cents += 1n) });
  const one = savings()
    .version(1)
    .upgradesTo(two, ({ balance }) => ({ cents: balance * 100n }));
  const play = new Play(/** @type {any} */ (one));
  play.fork("client", me.deposit(5n));
  play.fork("client", me.remind(1_000));
  play.upgrade(2);
  play.fork("client", me.deposit(1n));
  play.wait(2_000);
  assert.deepEqual(play.state, { cents: 601n });
  play.check();
});

test("a checkpoint keeps what JSON has no word for", () => {
  const state = {
    big: 2n ** 70n,
    small: 1n,
    map: new Map(
      /** @type {any[]} */ ([
        [1, { a: 1n }],
        ["x", new Set(["b", "a"])],
      ]),
    ),
    date: new Date(5),
    bytes: new Uint8Array([1, 2, 255]),
    nothing: undefined,
    list: [undefined, null, -0, 1e17, 2 ** 60, 1e300, Number.NaN, Number.POSITIVE_INFINITY, 1.5],
    tagged: { $: "bigint", v: "5" },
    text: "ä😀",
  };
  assert.deepEqual(load(save(state)), state);
  const odd = JSON.parse('{"__proto__": {"$": 1}}');
  assert.deepEqual(load(save(odd)), odd);
});

test("what a checkpoint would change is refused with its place", () => {
  const shared = { a: 1 };
  class Point {}
  assert.throws(
    () => save({ one: shared, two: [shared] }),
    /state\.two\[0\] is the same object as state\.one/,
  );
  assert.throws(() => save({ at: { p: new Point() } }), /state\.at\.p: a Point cannot be kept/);
  assert.throws(() => save({ f: () => 1 }), /state\.f: a function/);
});

test("values say what is wrong, and where", () => {
  const seat = record({ row: text, tags: optional(list(text)), extra: any });
  assert.deepEqual(seat.read({ row: "A", more: 1, extra: null }, "it"), {
    row: "A",
    tags: undefined,
    extra: null,
  });
  assert.throws(
    () => seat.read({ row: "A", tags: ["x", 5] }, "it"),
    /it\.tags\[1\] must be a text, not 5/,
  );
  assert.throws(() => contract({ a: method(1), b: method(1) }), /two methods have the same number/);
  assert.throws(() => method(-1), /those below 0 are reserved/);
});
