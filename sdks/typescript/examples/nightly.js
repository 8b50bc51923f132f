// A nightly job that is done once each night, whatever dies:
//
//     amrita up                                                     # three nodes, in another terminal
//     node examples/nightly.js --node http://127.0.0.1:8001         # a copy beside each node, as
//     node examples/nightly.js --node http://127.0.0.1:8002         # many as you like; `--every 2`
//     node examples/nightly.js --node http://127.0.0.1:8003         # makes a night of two seconds
//     amrita get '/app/reports?expand'
//
// The job is an immortal. It has one timer, which stands in the log like everything else, and fires
// late rather than never. The work of a night (it counts the orders, and files a report) is an
// effect: the primary does it, and if it dies in the middle the next primary does it again. What
// that does to the cluster bears to be done twice: the report of a night has a name, and is filed
// under a key that is the same in both attempts.
// @ts-check
import { AmritaError, Client } from "@amrita/sdk";
import { contract, main, method, program } from "@amrita/sdk/immortal";

/** @typedef {{night: number, orders: number, sum: bigint}} Report */

const DAY_SECONDS = 86_400;

const option = (/** @type {string} */ name) => {
  const at = process.argv.indexOf(`--${name}`);
  return at < 0 ? undefined : process.argv[at + 1];
};
const client = new Client(option("address") ?? option("node"));

const Job = contract({ report: method(1) });

const job = program("nightly", () => ({
  everyMillis: 0,
  due: 0,
  night: 0,
  done: /** @type {number[]} */ ([]),
  failed: 0,
}))
  .onStart((state, context, [everySeconds = DAY_SECONDS]) => {
    state.everyMillis = everySeconds * 1_000;
    // The next midnight, or the next multiple of another period.
    state.due = (Math.floor(context.now() / state.everyMillis) + 1) * state.everyMillis;
    context.at(state.due, "nightfall");
  })
  .next({
    nightfall(state, context) {
      state.night += 1;
      context.effect("report", state.night, "reported", state.night);
    },
    reported(state, context, outcome, night) {
      if (outcome.isError) {
        // Nobody was there to take it. Later, then.
        state.failed += 1;
        console.log(`night ${night}: ${outcome.error}`);
        context.after(1_000, "again", night);
        return;
      }
      state.done.push(night);
      state.done = state.done.slice(-100);
      console.log(`night ${night} is done: ${outcome.value().orders} orders`);
      // From when it was due, not from now: a night that was missed is made up for.
      state.due += state.everyMillis;
      context.at(state.due, "nightfall");
    },
    again: (_, context, __, night) => void context.effect("report", night, "reported", night),
  })
  .effects({
    async report(night, { key }) {
      const { orders, reports } = await kinds();
      let [count, sum] = [0, 0n];
      for await (const { amount } of orders.list()) [count, sum] = [count + 1, sum + amount];
      const name = `night-${String(night).padStart(6, "0")}`;
      try {
        await reports.create({ night, orders: count, sum }, { name, key });
      } catch (error) {
        // A primary that has died since has filed it already.
        const isThere =
          error instanceof AmritaError && ["ALREADY_EXISTS", "KEY_REUSED"].includes(error.code);
        if (!isThere) throw error;
      }
      return { orders: (await reports.get(name)).orders };
    },
  })
  .handles(Job, {
    report: (state) => ({ night: state.night, done: state.done, failed: state.failed }),
  });

async function kinds() {
  const whole = { type: "integer" };
  const orders = await client.kinds.ensure(
    {
      link: "/app/orders",
      schema: { type: "object", required: ["amount"], properties: { amount: whole } },
    },
    { bigints: ["amount"] },
  );
  const reports = await client.kinds.ensure(
    {
      link: "/app/reports",
      options: ["IMMUTABLE"],
      schema: {
        type: "object",
        required: ["night", "orders", "sum"],
        properties: { night: whole, orders: whole, sum: whole },
      },
    },
    { bigints: ["sum"] },
  );
  return {
    orders: /** @type {import("@amrita/sdk").Kind<{amount: bigint}>} */ (orders),
    reports: /** @type {import("@amrita/sdk").Kind<Report>} */ (reports),
  };
}

await client.registerImmortal("nightly");
await main(job, { initial: [Number(option("every") ?? DAY_SECONDS)] });
