import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import type { Answer, LedgerStep } from "./checker.js";

/** Whose order it is. */
interface OrderName {
  readonly caller: string;
  readonly key: string;
}

/** What the ledger answers: it knows nothing of the key yet, or has its order, or has seen a larger token. */
export type LedgerAnswer =
  | { readonly kind: "open" }
  | { readonly kind: "known"; readonly order: Answer }
  | { readonly kind: "fenced" };

/** What the ledger leaves out, to show what it is there for. */
export interface LedgerFaults {
  /** It takes any token. */
  readonly ignoresTokens?: boolean;
  /** It writes an order again. */
  readonly writesAgain?: boolean;
}

/**
 * The resource behind the handlers: it keeps orders, and lives in a process that is not killed. It does what any resource
 * has to do so that a call has one effect, however many processes run it:
 *
 * - it compares tokens: what comes under a lower token than the key has been read or written under is refused, so that a
 *   holder that comes back late changes nothing;
 * - it writes an order once for each key: a second holder finds the order of one that died before its answer was stored.
 */
export class Ledger {
  /** Every step, in order, for the checker. */
  readonly steps: LedgerStep[] = [];
  readonly #orders = new Map<string, { token: number; order?: Answer }>();
  readonly #nowUs: () => number;
  readonly #faults: LedgerFaults;

  constructor(nowUs: () => number, faults: LedgerFaults = {}) {
    this.#nowUs = nowUs;
    this.#faults = faults;
  }

  /** Reads the order of a key, if there is one. From now on, lower tokens are refused. */
  read(name: OrderName, token: number): LedgerAnswer {
    return this.#step(name, token, undefined);
  }

  /** Writes the order of a key, unless there is one. */
  write(order: Answer, token: number): LedgerAnswer {
    return this.#step(order, token, order);
  }

  #step({ caller, key }: OrderName, token: number, order: Answer | undefined): LedgerAnswer {
    const { ignoresTokens = false, writesAgain = false } = this.#faults;
    const atUs = this.#nowUs();
    const name = JSON.stringify([caller, key]);
    const known = this.#orders.get(name) ?? { token };
    this.#orders.set(name, known);
    if (token < known.token && !ignoresTokens) {
      this.steps.push({ caller, key, token, atUs, fenced: true });
      return { kind: "fenced" };
    }
    known.token = Math.max(known.token, token);
    if (known.order !== undefined && !writesAgain) {
      this.steps.push({ caller, key, token, atUs });
      return { kind: "known", order: known.order };
    }
    if (order === undefined) {
      this.steps.push({ caller, key, token, atUs });
      return { kind: "open" };
    }
    known.order = order;
    this.steps.push({ caller, key, token, atUs, applied: order });
    return { kind: "known", order };
  }
}

/** A question to a ledger over a socket: one line of JSON, and one line for its answer. */
type Question = { readonly id: number; readonly token: number } & (
  | { readonly read: OrderName }
  | { readonly write: Answer }
);

function ask(ledger: Ledger, question: Question): LedgerAnswer {
  const { token } = question;
  return "read" in question
    ? ledger.read(question.read, token)
    : ledger.write(question.write, token);
}

/** A ledger that other processes reach over a socket of the loopback interface. */
export interface ListeningLedger {
  readonly port: number;
  close(): Promise<void>;
}

export async function listen(ledger: Ledger): Promise<ListeningLedger> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    // The peer was killed.
    socket.on("error", () => socket.destroy());
    let begun = "";
    socket.setEncoding("utf8").on("data", (text: string) => {
      const lines = (begun + text).split("\n");
      // What a peer that was killed has half sent is no question.
      begun = lines.pop() ?? "";
      const answers = lines.map((line) => {
        const question: Question = JSON.parse(line);
        return `${JSON.stringify({ id: question.id, answer: ask(ledger, question) })}\n`;
      });
      socket.write(answers.join(""));
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    port: address.port,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
