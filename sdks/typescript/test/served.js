// A program of a service for the tests: `served.js VERSION --node NODE`; the version `hangs` hangs.
import { Refusal, service } from "../src/service/index.js";

const [version] = process.argv.splice(2, 1);
const isRun = process.argv.length > 2;

const counters = service("/app/counters", {
  version,
  bigints: ["count"],
  schema: { type: "object", properties: { count: { type: "integer" } } },
}).action("add", async (_, /** @type {any} */ counter, { by = 1 }) => {
  if (version === "hangs") {
    console.log("hanging");
    setInterval(() => {}, 1_000);
    await new Promise(() => {});
  }
  if (typeof by !== "number") throw new Refusal("by is a number", 400);
  counter.count += BigInt(by);
});

// The test runner looks into each file of this folder.
if (isRun) await counters.main();
