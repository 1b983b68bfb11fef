import { Metadata, status as Status, type StatusObject } from "@grpc/grpc-js";
import { type CancelTask, expireAt } from "../../core/clock.js";
import { type Permit, refusal } from "../../core/permit.js";
import { whenKnown } from "../../core/user-code.js";
import { CallDeadline } from "../../grpc/deadline.js";
import {
  type Degradation,
  fallbackDegradation,
  mark,
  noteResponse,
} from "../../grpc/status/degraded.js";
import { localRejection } from "../../grpc/status/rejection.js";
import { FallbackRun } from "./chain.js";
import { PrimaryCall } from "./client-primary-call.js";
import {
  type AnyIterator,
  accepts,
  askProvider,
  type FallbackAnswer,
  type FallbackQuestion,
  type FallbackSource,
  failureOf,
  faultOf,
  reportFailure,
} from "./client-providers.js";
import type { StaleCache } from "./stale-cache/client-cache.js";

/** A call with one request message. If it fails, the first provider that has an answer replaces the failure. */
export class FallbackCall extends PrimaryCall {
  #run: FallbackRun<FallbackSource, FallbackAnswer> | undefined;
  #stream: FallbackStream | undefined;
  #stopTimer: CancelTask | undefined;
  /** Cancels the provider that works for the call: it is being asked, or its streamed answer has not ended. */
  #cancelProvider: (() => void) | undefined;
  #permit: Permit | undefined;

  protected override failed(status: StatusObject): void {
    const { record, policy, environment } = this;
    const { report } = environment;
    const sawHeaders = this.heldMetadata !== undefined;
    const question: FallbackQuestion = {
      record,
      metadata: this.metadata,
      request: this.request,
      definition: this.options.method_definition,
      key: this.key,
      failure: failureOf(status, record, sawHeaders, this.getPeer()),
    };
    this.#run = new FallbackRun<FallbackSource, FallbackAnswer>(policy.sources, {
      clock: record.clock,
      deadlineMs: record.deadlineMs,
      // No provider is asked once the weir or the client is closed.
      accepts: (source) => this.closing === undefined && accepts(source, question.failure, report),
      ask: (source, dueMs, onReply) => {
        const cancel = askProvider(source, question, dueMs, onReply);
        this.#cancelProvider = cancel;
        return cancel;
      },
      failed: ({ load }, error) => reportFailure(error, load.limits.name, report),
      answered: (answer, source, permit) => {
        environment.pendingCalls.leave(this.closed);
        this.#permit = permit;
        this.#answered(answer, source, status);
      },
      unanswered: (tried) => {
        if (tried !== "") {
          policy.unanswered += 1;
          this.decide("stop", tried, "FALLBACK_UNANSWERED");
        }
        this.conclude(status);
      },
    });
    environment.pendingCalls.enter(this.closed, record.connection);
    this.#run.start();
  }

  protected override fresh(answer: FallbackAnswer, cache: StaleCache): void {
    this.#decideFrom(cache, `${cache.load.limits.name}, fresh${ageText(answer)}`);
    this.#give(answer, []);
  }

  override startRead(): void {
    super.startRead();
    this.#stream?.read();
  }

  protected override released(): void {
    super.released();
    this.#stopTimer?.();
    this.#run?.abort();
    this.#stream?.stop();
    this.#permit?.settle("ignored");
    this.#cancelProvider?.();
  }

  #decideFrom({ storeAway }: FallbackSource, detail: string): void {
    if (storeAway === true) {
      this.decide("fallback", `${detail}; from this process, the store is away`, "STORE_AWAY");
    } else this.decide("fallback", detail);
  }

  #answered(answer: FallbackAnswer, source: FallbackSource, failure: StatusObject): void {
    const { record } = this;
    const { name } = source.load.limits;
    this.#decideFrom(source, `${name}${ageText(answer)}, instead of ${Status[failure.code]}`);
    const degradations = [fallbackDegradation(name, record.method, answer.ageMs)];
    record.inbound?.degraded(degradations);
    this.#give(answer, degradations);
  }

  #give(answer: FallbackAnswer, degradations: readonly Degradation[]): void {
    const message = (response: unknown) => {
      noteResponse(response, degradations);
      this.showMessage(response);
    };
    const done = () => {
      this.#cancelProvider = undefined;
      const status = { code: Status.OK, details: "OK", metadata: marked(degradations) };
      this.conclude(status);
    };
    // A listener above may throw. What follows is passed on all the same.
    try {
      this.showMetadata(marked(degradations));
    } finally {
      if (answer.kind === "stream") this.#giveStream(answer, message, done);
      else {
        try {
          message(answer.message);
        } finally {
          done();
        }
      }
    }
  }

  #giveStream(
    { iterator, first }: Extract<FallbackAnswer, { kind: "stream" }>,
    message: (response: unknown) => void,
    done: () => void,
  ): void {
    const broken = (error: unknown) => this.#broken(error);
    const stream = new FallbackStream(iterator, first, { message, done, broken });
    if (this.ended) return;
    this.#stream = stream;
    this.#endAtDeadline();
    if (this.readWanted) stream.read();
  }

  /** Without a layer of deadlines above, ends a streamed answer at the deadline of the call. */
  #endAtDeadline(): void {
    const { record } = this;
    const { clock, deadlineMs } = record;
    if (deadlineMs === Number.POSITIVE_INFINITY) return;
    if (this.options.deadline instanceof CallDeadline) return;
    const detail = "Deadline exceeded in the answer of a fallback";
    const end = () => this.finish(localRejection(refusal("DEADLINE_EXCEEDED", detail)));
    const leftMs = deadlineMs - clock.now();
    this.#stopTimer = expireAt(clock, deadlineMs, leftMs, () => record.restore(end));
  }

  /** A streamed answer has broken off. It is not complete, so the call ends with its own failure. */
  #broken(error: unknown): void {
    reportFailure(error, "stream", this.environment.report);
    const details = "A stored answer could not be read";
    const unread = { code: Status.INTERNAL, details, metadata: new Metadata() };
    this.conclude(this.failure ?? unread);
  }
}

function ageText({ ageMs }: FallbackAnswer): string {
  return ageMs === undefined ? "" : `, ${Math.round(ageMs)} ms old`;
}

function marked(degradations: readonly Degradation[]): Metadata {
  const metadata = new Metadata();
  mark(metadata, degradations);
  return metadata;
}

interface FallbackStreamReader {
  message(message: unknown): void;
  /** There are no more messages. */
  done(): void;
  /** The answer broke off. */
  broken(error: unknown): void;
}

/** A streamed answer of a provider. It is read as fast as the caller reads: one message for each read. */
export class FallbackStream {
  readonly #iterator: AnyIterator;
  readonly #reader: FallbackStreamReader;
  #first: IteratorResult<unknown, unknown> | undefined;
  #reading = false;
  #over = false;

  constructor(
    iterator: AnyIterator,
    first: IteratorResult<unknown, unknown>,
    reader: FallbackStreamReader,
  ) {
    this.#iterator = iterator;
    this.#reader = reader;
    if (first.done === true) this.#take(first);
    else this.#first = first;
  }

  /** The caller reads a message. */
  read(): void {
    if (this.#reading || this.#over) return;
    this.#reading = true;
    const first = this.#first;
    this.#first = undefined;
    // In the next tick, because the caller is inside `startRead`: an iterator that is not asynchronous would recurse.
    if (first !== undefined) process.nextTick(() => this.#take(first));
    else {
      whenKnown(
        async () => this.#iterator.next(),
        (result) => this.#take(result),
        (error) => this.#break(error),
      );
    }
  }

  /** The call has ended. The iterator is closed by whoever asked for the answer. */
  stop(): void {
    this.#over = true;
  }

  #take(result: IteratorResult<unknown, unknown>): void {
    if (this.#over) return;
    this.#reading = false;
    if (result.done === true) {
      this.#over = true;
      this.#reader.done();
      return;
    }
    const fault = faultOf(result);
    if (fault === undefined) this.#reader.message(result.value);
    else this.#break(fault);
  }

  #break(error: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#reader.broken(error);
  }
}
