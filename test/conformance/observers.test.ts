import {
  type ClientOptions,
  InterceptingCall,
  type Interceptor,
  Metadata,
  status,
} from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import * as client from "../../src/client.js";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../src/gen/weir/v1/conformance.js";
import {
  type InMemoryTransport,
  inMemoryTransport,
} from "../../src/testing/in-memory/in-memory.js";
import { createWeir } from "../../src/weir.js";
import { echo, kinds, type Method, startCall } from "../scene.js";

type Env = Pick<InMemoryTransport, "clock" | "random">;

/** Interceptors that have nothing to do in these calls: who stands above or below must not notice them. */
const subjects: Readonly<Record<string, (env: Env) => ClientOptions>> = {
  "the client pipeline": (env) => createWeir(env).client(),
  "the client pipeline without retries": (env) => createWeir(env).client({ retry: false }),
  "a client pipeline with queues and timeouts": (env) =>
    createWeir(env).client({
      bulkhead: { maxConcurrent: 4 },
      throttle: {},
      rate: { ratePerSecond: 1_000 },
      timeouts: { attemptMs: 60_000, idleMs: 60_000 },
      idempotencyKey: {},
    }),
  context: ({ clock }) => ({ interceptors: [client.context({ clock })] }),
  deadline: ({ clock }) => ({ interceptors: [client.deadline({ clock })] }),
  retry: (env) => ({ interceptors: [client.retry(env)] }),
  breaker: ({ clock }) => ({ interceptors: [client.breaker({ clock })] }),
  bulkhead: ({ clock }) => ({ interceptors: [client.bulkhead({ clock })] }),
  throttle: (env) => ({ interceptors: [client.throttle(env)] }),
  timeouts: ({ clock }) => ({ interceptors: [client.timeouts({ clock, attemptMs: 60_000 })] }),
};

/** Notes each event that an interceptor written with grpc-js's own machinery is told. */
function observing(events: string[]): Interceptor {
  return (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, _listener, next) {
        events.push("start");
        next(metadata, {
          onReceiveMetadata(headers, pass) {
            events.push("headers");
            pass(headers);
          },
          onReceiveMessage(message, pass) {
            events.push(message === null ? "null" : "response");
            pass(message);
          },
          onReceiveStatus(ended, pass) {
            events.push(status[ended.code]);
            pass(ended);
          },
        });
      },
      sendMessage(message, next) {
        events.push("request");
        next(message);
      },
      halfClose(next) {
        events.push("half-close");
        next();
      },
      cancel(next) {
        events.push("cancel");
        next();
      },
    });
}

interface Course {
  readonly headers?: true;
  readonly ends?: "answers" | "fails";
  readonly afterMs?: number;
  /** Cancels so many milliseconds after the start. */
  readonly cancelMs?: number;
  /** The deadline, from the start. */
  readonly deadlineMs?: number;
}

const courses: Readonly<Record<string, Course>> = {
  "is answered at once": { ends: "answers" },
  "is answered late": { ends: "answers", afterMs: 50 },
  "is answered late, behind headers": { headers: true, ends: "answers", afterMs: 50 },
  "fails at once": { ends: "fails" },
  "fails late": { ends: "fails", afterMs: 50 },
  "fails behind headers": { headers: true, ends: "fails", afterMs: 50 },
  "is cancelled in the tick of its start": { cancelMs: 0 },
  "is cancelled under way": { cancelMs: 30 },
  "is cancelled behind headers": { headers: true, cancelMs: 30 },
  "is cancelled long after its start": { cancelMs: 5_000 },
  "runs out of time": { deadlineMs: 100 },
  "runs out of time behind headers": { headers: true, deadlineMs: 100 },
  "has no time": { deadlineMs: -5 },
};

function serving({ clock }: Env, { headers, ends, afterMs = 0 }: Course): ConformanceServiceServer {
  const failure = { code: status.INVALID_ARGUMENT, details: "no" };
  const run = (
    call: { sendMetadata(metadata: Metadata): void },
    answer: () => void,
    fail: (error: typeof failure) => void,
  ) => {
    if (headers === true) call.sendMetadata(new Metadata());
    if (ends === undefined) return;
    const end = ends === "answers" ? answer : () => fail(failure);
    if (afterMs === 0) end();
    else clock.schedule(afterMs, end);
  };
  return {
    ...echo,
    unary: (call, callback) =>
      run(
        call,
        () => echo.unary(call, callback),
        (error) => callback(error),
      ),
    clientStream: (call, callback) =>
      run(
        call,
        () => echo.clientStream(call, callback),
        (error) => callback(error),
      ),
    serverStream: (call) =>
      run(
        call,
        () => echo.serverStream(call),
        (error) => call.emit("error", error),
      ),
    bidiStream: (call) =>
      run(
        call,
        () => echo.bidiStream(call),
        (error) => call.emit("error", error),
      ),
  };
}

/** What is seen above and below the subject in such a call. */
async function seen(
  subject: (env: Env) => ClientOptions,
  kind: Method,
  course: Course,
): Promise<{ readonly above: readonly string[]; readonly below: readonly string[] }> {
  const transport = inMemoryTransport();
  const { clock, random } = transport;
  const above: string[] = [];
  const below: string[] = [];
  const { interceptors = [], ...options } = subject({ clock, random });
  const link = await transport.open({
    service: ConformanceServiceService,
    implementation: serving(transport, course),
    clientOptions: {
      ...options,
      interceptors: [observing(above), ...interceptors, observing(below)],
    },
    serverInterceptors: [],
  });
  const { cancelMs, deadlineMs } = course;
  const callOptions = deadlineMs === undefined ? {} : { deadline: clock.wallNow() + deadlineMs };
  const running = startCall(
    link.client(ConformanceServiceClient),
    kind,
    callOptions,
    new Metadata(),
  );
  if (cancelMs !== undefined) {
    if (cancelMs > 0) await link.pass(cancelMs);
    running.cancel();
  }
  await link.until(running.ended, 1e6);
  await link.pass(100);
  return { above: untilEnd(above), below: untilEnd(below) };
}

/**
 * The events up to the end. The toolkit calls back what was written and will not be sent, which grpc-js does not, so that
 * a stream of Node may go on writing behind the end.
 */
function untilEnd(events: readonly string[]): readonly string[] {
  const end = events.findIndex((event) => event in status);
  return end < 0 ? events : events.slice(0, end + 1);
}

describe.each(Object.entries(subjects))("above and below %s", (_name, subject) => {
  describe.each(Object.entries(courses))("a call that %s", (_course, course) => {
    it.each(kinds)("looks as with grpc-js alone: %s", async (kind) => {
      const bare = await seen(() => ({}), kind, course);
      const own = await seen(subject, kind, course);
      expect(own.above).toEqual(bare.above);
      // A deadline of the toolkit's calls off what is below, or does not send it; that of grpc-js ends it there.
      if (course.deadlineMs === undefined) expect(own.below).toEqual(bare.below);
    });
  });
});
