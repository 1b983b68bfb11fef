import {
  Metadata,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServiceError,
  status as Status,
} from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  type ConformanceServiceServer,
  ConformanceServiceService,
} from "../../../src/gen/weir/v1/conformance.js";
import { ForwardingServerCall, intercepted } from "../../../src/grpc/server/forwarding-call.js";
import { rejectionOf } from "../../../src/grpc/status/rejection.js";
import type { ServerCall } from "../../../src/grpc/types.js";
import { idempotency } from "../../../src/policies/idempotency/server.js";
import { loopbackTransport } from "../../../src/testing/loopback/loopback.js";
import { echo, payload } from "../../scene.js";

const method = ConformanceServiceService.unary;
const closing: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

type Answer = { readonly payload: Buffer; readonly sequence: number };

interface Asked {
  readonly code: Status;
  readonly answer: Answer | undefined;
  readonly replayed: boolean;
  readonly error: ServiceError | null;
}

/** A server of grpc-js that keeps answers by key, behind interceptors of others. */
async function serve(before: readonly ServerInterceptor[] = [], clientOptions = {}) {
  let runs = 0;
  const errors: unknown[] = [];
  const policy = idempotency({
    scope: "shared",
    methods: { [method.path]: {} },
    onError: (error) => errors.push(error),
  });
  const implementation: ConformanceServiceServer = {
    ...echo,
    unary: ({ request }, answer) => {
      runs += 1;
      answer(null, { payload: request.payload, sequence: runs });
    },
  };
  const link = await loopbackTransport().open({
    service: ConformanceServiceService,
    implementation,
    clientOptions,
    serverInterceptors: [...before, policy],
  });
  closing.push(() => link.close());
  const client = link.client(ConformanceServiceClient);
  const ask = (key: string, more: Buffer = Buffer.alloc(0), body: Buffer = payload) =>
    new Promise<Asked>((resolve) => {
      const metadata = new Metadata();
      metadata.set("idempotency-key", key);
      let failed: ServiceError | null = null;
      let answer: Answer | undefined;
      client
        .makeUnaryRequest(
          method.path,
          (request: Answer) => Buffer.concat([method.requestSerialize(request), more]),
          method.responseDeserialize,
          { payload: body, sequence: 1 },
          metadata,
          (error, response) => {
            failed = error;
            answer = response;
          },
        )
        .on("status", ({ code, metadata: trailers }) => {
          const replayed = trailers.get("x-weir-replayed")[0] === "true";
          resolve({ code, answer, replayed, error: failed });
        });
    });
  return { ask, errors, runs: () => runs };
}

/** An interceptor of grpc-js that changes nothing. */
const plain: ServerInterceptor = (_method, call) => new ServerInterceptingCall(call);
/** One that returns a call of a class of its own, which hides the one of grpc-js. */
const hiding: ServerInterceptor = (_method, call) => intercepted(new HidingCall(call));

class HidingCall extends ForwardingServerCall {
  constructor(call: ServerCall) {
    // The call below in a closure, as another library may have it.
    const hidden = new Proxy(call, {
      get: (target, name) => {
        const found: unknown = Reflect.get(target, name);
        return typeof found === "function" ? found.bind(target) : undefined;
      },
    });
    super(hidden);
  }
}

describe("the bytes of requests of grpc-js", () => {
  it("tell requests apart, also by what the server does not know", async () => {
    const { ask, runs } = await serve();
    expect(await ask("a")).toMatchObject({ code: Status.OK, replayed: false });
    expect(await ask("a")).toMatchObject({
      code: Status.OK,
      replayed: true,
      answer: { sequence: 1 },
    });
    const unknownField = Buffer.from([0x98, 0x3f, 1]);
    const refused = await ask("a", unknownField);
    expect(refused.code).toBe(Status.INVALID_ARGUMENT);
    expect(rejectionOf(refused.error)?.reason).toBe("IDEMPOTENCY_KEY_REUSED");
    expect(runs()).toBe(1);
  });

  it("are the same however they were compressed on their way", async () => {
    const { ask, runs } = await serve([], { "grpc.default_compression_algorithm": 2 });
    const body = Buffer.alloc(20_000, "abc");
    expect(await ask("a", undefined, body)).toMatchObject({ code: Status.OK, replayed: false });
    const again = await ask("a", undefined, body);
    expect(again).toMatchObject({ code: Status.OK, replayed: true });
    expect(again.answer?.payload.equals(body)).toBe(true);
    expect(runs()).toBe(1);
  });

  it("are found behind interceptors of grpc-js", async () => {
    const { ask, runs, errors } = await serve([plain, plain]);
    expect(await ask("a")).toMatchObject({ code: Status.OK, replayed: false });
    expect(await ask("a")).toMatchObject({ code: Status.OK, replayed: true });
    expect(runs()).toBe(1);
    expect(errors).toEqual([]);
  });

  it("cannot be had where an interceptor hides the call: nothing runs, and that is reported", async () => {
    const { ask, runs, errors } = await serve([hiding]);
    const { code, error } = await ask("a");
    expect(code).toBe(Status.INTERNAL);
    expect(rejectionOf(error)?.reason).toBe("IDEMPOTENCY_MISCONFIGURED");
    await ask("a");
    expect(runs()).toBe(0);
    expect(String(errors)).toContain("hides the bytes of requests");
    expect(errors).toHaveLength(1);
  });
});
