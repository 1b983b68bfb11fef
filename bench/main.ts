import { cores } from "./cores.js";
import { guard } from "./guard.js";
import { idempotency } from "./idempotency.js";
import { interceptors } from "./interceptors.js";
import { overhead } from "./overhead.js";
import { overload } from "./overload.js";

const benches: Readonly<Record<string, () => Promise<void>>> = {
  overhead,
  interceptors,
  guard,
  cores,
  overload,
  idempotency,
};

// Names first, then the options of the one bench that has some.
const args = process.argv.slice(2);
const firstOption = args.findIndex((arg) => arg.startsWith("-"));
const wanted = firstOption < 0 ? args : args.slice(0, firstOption);
const unknown = wanted.filter((name) => benches[name] === undefined);
if (unknown.length > 0) {
  console.error(
    `no bench named ${unknown.join(", ")}; there are: ${Object.keys(benches).join(", ")}`,
  );
  process.exitCode = 1;
} else {
  for (const [name, run] of Object.entries(benches)) {
    if (wanted.length === 0 || wanted.includes(name)) await run();
  }
}
