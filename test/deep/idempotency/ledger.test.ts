import { once } from "node:events";
import { createConnection } from "node:net";
import { describe, expect, it } from "vitest";
import type { Answer } from "./checker.js";
import { Ledger, type LedgerFaults, listen } from "./ledger.js";

const order: Answer = {
  kind: "applied",
  caller: "anna",
  key: "order-1",
  request: "boots",
  text: "reservation 7",
};

function ledgerWith(faults?: LedgerFaults): Ledger {
  let now = 0;
  return new Ledger(() => {
    now += 1;
    return now;
  }, faults);
}

describe("the ledger", () => {
  it("writes an order, and shows it to whoever reads later", () => {
    const ledger = ledgerWith();
    expect(ledger.read(order, 5)).toEqual({ kind: "open" });
    expect(ledger.write(order, 5)).toEqual({ kind: "known", order });
    expect(ledger.read(order, 6)).toEqual({ kind: "known", order });
  });

  it("writes an order once for each key of a caller", () => {
    const ledger = ledgerWith();
    ledger.write(order, 5);
    expect(ledger.write({ ...order, text: "reservation 8" }, 6)).toEqual({ kind: "known", order });
    expect(ledger.steps.filter(({ applied }) => applied !== undefined)).toHaveLength(1);
    const bens = { ...order, caller: "ben" };
    expect(ledger.write(bens, 1)).toEqual({ kind: "known", order: bens });
  });

  it("refuses a token lower than one that has read the key", () => {
    const ledger = ledgerWith();
    ledger.read(order, 5);
    ledger.read(order, 6);
    expect(ledger.write(order, 5)).toEqual({ kind: "fenced" });
    expect(ledger.read(order, 5)).toEqual({ kind: "fenced" });
    expect(ledger.write(order, 6)).toEqual({ kind: "known", order });
  });

  it("takes any token when it is told to ignore them", () => {
    const ledger = ledgerWith({ ignoresTokens: true });
    ledger.read(order, 6);
    expect(ledger.write(order, 5)).toEqual({ kind: "known", order });
  });

  it("writes twice when it is told to write again", () => {
    const ledger = ledgerWith({ writesAgain: true });
    ledger.write(order, 5);
    expect(ledger.read(order, 6)).toEqual({ kind: "open" });
    ledger.write(order, 6);
    expect(ledger.steps.filter(({ applied }) => applied !== undefined)).toHaveLength(2);
  });

  it("answers over a socket, and does not take half a question of a peer that was killed", async () => {
    const ledger = ledgerWith();
    const listening = await listen(ledger);
    const { caller, key } = order;
    const dying = createConnection(listening.port, "127.0.0.1");
    await once(dying, "connect");
    dying.end('{"id":1,"token":9,"read":{"caller":"anna"');
    await once(dying, "close");
    const socket = createConnection(listening.port, "127.0.0.1").setEncoding("utf8");
    socket.write(`${JSON.stringify({ id: 2, token: 5, read: { caller, key } })}\n`);
    const [answer] = await once(socket, "data");
    expect(JSON.parse(answer)).toEqual({ id: 2, answer: { kind: "open" } });
    socket.destroy();
    await listening.close();
    expect(ledger.steps).toHaveLength(1);
  });
});
