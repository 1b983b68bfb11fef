import { InterceptingCall, type Interceptor, status as Status } from "@grpc/grpc-js";
import { context, trace } from "@opentelemetry/api";
import { afterEach, beforeEach, expect, it } from "vitest";
import { inMemoryTransport } from "../../src/testing/in-memory/in-memory.js";
import { openScene, unary } from "./scene.js";
import { startTracing, type TracingUnderTest } from "./tracing.js";

let tracing: TracingUnderTest;

beforeEach(() => {
  tracing = startTracing();
});

afterEach(() => tracing.stop());

it("a span in which an interceptor above starts the call is the parent of the call span", async () => {
  const outer = trace.getTracer("the application").startSpan("outer");
  const inSpan: Interceptor = (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        context.with(trace.setSpan(context.active(), outer), () => next(metadata, listener));
      },
    });
  const scene = await openScene(inMemoryTransport(), { outermost: [inSpan] });
  expect(await scene.link.until(unary(scene))).toBe("OK");
  const parents = tracing.calls().map(({ parentSpanContext }) => parentSpanContext?.spanId);
  expect(parents).toEqual([outer.spanContext().spanId]);
  await scene.link.close();
});

it("the retries of two calls that an interceptor above makes of one belong to the span of their own", async () => {
  const twice: Interceptor = (options, nextCall) => {
    const other = nextCall(options);
    return new InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        other.start(metadata.clone(), {});
        next(metadata, listener);
      },
      sendMessage(message, next) {
        other.sendMessage(message);
        next(message);
      },
      halfClose(next) {
        other.halfClose();
        next();
      },
    });
  };
  let calls = 0;
  const scene = await openScene(inMemoryTransport(), {
    outermost: [twice],
    handlers: {
      unary: (_call, callback) => {
        calls += 1;
        if (calls > 2) callback(null, { payload: Buffer.alloc(0), sequence: 1 });
        else callback({ code: Status.UNAVAILABLE, details: "not now" });
      },
    },
  });
  expect(await scene.link.until(unary(scene))).toBe("OK");
  await scene.link.pass(1_000);
  const parents = tracing.attempts().map(({ parentSpanContext }) => parentSpanContext?.spanId);
  const attempts = tracing
    .calls()
    .map((span) => parents.filter((parent) => parent === span.spanContext().spanId).length);
  expect(attempts).toEqual([2, 2]);
  await scene.link.close();
});
