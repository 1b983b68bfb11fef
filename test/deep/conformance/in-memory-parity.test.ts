import { expect, it } from "vitest";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { loopbackTransport } from "../../../src/testing/loopback/loopback.js";
import { open, quiet } from "../../testing/in-memory/scene.js";
import { answers } from "./parity-answers.js";
import { endings } from "./parity-endings.js";

/** Ports, times and dates are nobody's agreement. */
function plain(value: unknown): unknown {
  const text = JSON.stringify(value)
    .replaceAll(/127\.0\.0\.1:\d+/g, "<address>")
    .replaceAll(/Deadline exceeded after [^"\\]*/g, "Deadline exceeded after <time>")
    // How a broken connection is noticed depends on what was in the socket at that moment.
    .replaceAll("read ECONNRESET", "Connection dropped")
    .replaceAll(/"date":\["[^"]*"\]/g, '"date":["<date>"]');
  return JSON.parse(text);
}

it.concurrent.each(Object.entries({ ...answers, ...endings }))(
  "treats %s as grpc-js over sockets does",
  async (_name, each) => {
    const runs = [];
    for (const transport of [loopbackTransport(), inMemoryTransport()]) {
      const scene = await open(transport, each.handlers, each.more);
      const result = await scene.link.until(each.act(scene));
      await quiet(scene); // the server's side ends after the client's
      runs.push(plain({ result, ...scene.trace }));
      await scene.link.close();
    }
    const [real, modelled] = runs;
    expect(modelled).toEqual(real);
  },
);
