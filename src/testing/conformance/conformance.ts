import assert from "node:assert/strict";
import type { Transport } from "../transport.js";
import { cancelCases } from "./cases/cancel.js";
import { deadlineCases } from "./cases/deadline.js";
import { errorCases } from "./cases/errors.js";
import { flowCases } from "./cases/flow.js";
import { halfCloseCases } from "./cases/half-close.js";
import { messageCases } from "./cases/messages.js";
import { metadataCases } from "./cases/metadata.js";
import type { CallKind } from "./message.js";
import type { ConformanceSubject } from "./scene.js";
import { type CaseSpec, Scene } from "./scene.js";

export type { CallKind } from "./message.js";
export type { ConformanceEnv, ConformanceSubject } from "./scene.js";

/** One thing that every call has to hold to, whatever stands between client and server. */
export interface ConformanceCase {
  /** A sentence, led by the kind of call. The same over every transport. */
  readonly name: string;
  readonly kind: CallKind;
  /**
   * Rejects with an `AssertionError` if the subject changes what grpc-js promises.
   * One at a time: a case listens for errors that reach nobody but the process.
   */
  run(): Promise<void>;
}

const specs: readonly CaseSpec[] = [
  ...messageCases,
  ...halfCloseCases,
  ...errorCases,
  ...metadataCases,
  ...cancelCases,
  ...deadlineCases,
  ...flowCases,
];

/**
 * The cases that show whether interceptors leave calls as whole as plain grpc-js does: messages,
 * order, half-close, errors, metadata, cancellation, deadlines, flow control, and a server that
 * goes. It knows no test runner: register each case with yours.
 *
 * ```ts
 * const subject = { client: () => [myInterceptor()] };
 * for (const each of conformance(subject, loopbackTransport)) it(each.name, () => each.run());
 * ```
 *
 * An empty subject, which is grpc-js alone, passes every case.
 */
export function conformance(
  subject: ConformanceSubject,
  makeTransport: () => Transport,
): readonly ConformanceCase[] {
  return specs.flatMap((spec) =>
    spec.kinds.map((kind) => ({
      name: `${kind}: ${spec.name}`,
      kind,
      run: () => runCase(spec, kind, subject, makeTransport()),
    })),
  );
}

async function runCase(
  spec: CaseSpec,
  kind: CallKind,
  subject: ConformanceSubject,
  transport: Transport,
): Promise<void> {
  const strays = new Strays();
  try {
    const scene = await Scene.open(kind, subject, transport);
    try {
      await spec.run(scene);
      await scene.settle(spec);
    } finally {
      await scene.link.close();
      // A stray error explains more than the wait in vain that followed from it.
      strays.verify();
    }
  } finally {
    strays.stop();
  }
}

/** Errors that reached nobody but the process. */
class Strays {
  readonly #errors: unknown[] = [];
  readonly #note = (error: unknown) => {
    this.#errors.push(error);
  };

  /** Listens until `stop`. Errors stay visible to whoever else listens. */
  constructor() {
    process.on("uncaughtException", this.#note);
    process.on("unhandledRejection", this.#note);
  }

  stop(): void {
    process.off("uncaughtException", this.#note);
    process.off("unhandledRejection", this.#note);
  }

  verify(): void {
    const [first] = this.#errors;
    if (this.#errors.length === 0) return;
    throw new assert.AssertionError({
      message: `an error reached nobody but the process: ${String(first)}`,
    });
  }
}
