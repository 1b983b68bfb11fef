import assert from "node:assert/strict";
import type { CallKind } from "../../grpc/types.js";
import type { Transport } from "../transport.js";
import { cancelCases } from "./cases/cancel.js";
import { deadlineCases } from "./cases/deadline.js";
import { errorCases } from "./cases/errors.js";
import { flowCases } from "./cases/flow.js";
import { halfCloseCases } from "./cases/half-close.js";
import { messageCases } from "./cases/messages.js";
import { metadataCases } from "./cases/metadata.js";
import type { ConformanceSubject } from "./scene.js";
import { type CaseSpec, Scene } from "./scene.js";

export type { CallKind } from "../../grpc/types.js";
export type { ConformanceEnv, ConformanceSubject } from "./scene.js";

/**
 * One promise of grpc-js that interceptors must keep, for one kind of call.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
 */
export interface ConformanceCase {
  /** A sentence that begins with the kind of call. It is the same for each transport. */
  readonly name: string;
  readonly kind: CallKind;
  /**
   * Rejects with an `AssertionError` if the subject breaks the promise. Run one case at a time: each listens for uncaught
   * errors of the process.
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
 * The cases that show whether calls with interceptors behave as calls of plain grpc-js do: messages and their order,
 * half-close, errors, metadata, cancellation, deadlines, flow control, and a server that crashes. The suite needs no
 * particular test runner: register each case with yours.
 *
 * ```ts
 * const subject = { client: () => [myInterceptor()] };
 * for (const each of conformance(subject, loopbackTransport)) it(each.name, () => each.run());
 * ```
 *
 * An empty subject, which is grpc-js alone, passes each case.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/testing.md
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
      // An uncaught error explains more than the failed wait that followed from it.
      strays.verify();
    }
  } finally {
    strays.stop();
  }
}

/** Collects uncaught errors and unhandled rejections of the process. */
class Strays {
  readonly #errors: unknown[] = [];
  readonly #note = (error: unknown) => {
    this.#errors.push(error);
  };

  /** Listens until `stop`. Other listeners of the process get the errors too. */
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
      message: `an uncaught error: ${String(first)}`,
    });
  }
}
