import { Client, type InterceptorOptions, Metadata, type NextCall } from "@grpc/grpc-js";
import { describe, expect, it } from "vitest";
import { ConformanceServiceService } from "../../../src/gen/weir/v1/conformance.js";
import {
  copyMetadata,
  keepMetadata,
  lendMetadata,
} from "../../../src/grpc/client/kept-metadata.js";
import {
  handOn,
  keepRequest,
  type Reach,
  reach,
  reachOf,
} from "../../../src/grpc/client/kept-request.js";
import { inMemoryTransport } from "../../../src/testing/in-memory/in-memory.js";
import { echo } from "../../scene.js";
import { FakeCall, optionsOf } from "./fake-call.js";

/** A call of ours that knows what its messages meet. */
const above = (below: Reach) => ({
  [reach]: () => below,
  targetBelow: () => "unknown",
  countsResets: false,
});

/** Makes a unary call of grpc-js, and hands what an interceptor has to the test. */
async function bottom(
  then: (options: InterceptorOptions, nextCall: NextCall) => void,
  serialize = ConformanceServiceService.unary.requestSerialize,
) {
  const { path, responseDeserialize } = ConformanceServiceService.unary;
  const link = await inMemoryTransport().open({
    service: ConformanceServiceService,
    implementation: echo,
    clientOptions: {
      interceptors: [
        (options, nextCall) => {
          const call = nextCall(options);
          then(options, () => call);
          return call as never;
        },
      ],
    },
    serverInterceptors: [],
  });
  const client = link.client(Client);
  return link.until(
    new Promise((resolve) => {
      const request = { payload: Buffer.alloc(0), sequence: 1 };
      client.makeUnaryRequest(path, serialize, responseDeserialize, request, (error, answer) =>
        resolve(error?.details ?? answer),
      );
    }),
  );
}

describe("what keeping requests knows of grpc-js", () => {
  it("serializes in a call that has the definition which interceptors see", async () => {
    const found: string[] = [];
    await bottom((options, nextCall) => {
      const { method_definition: definition } = options;
      found.push(reachOf(nextCall(options), definition));
      keepRequest(definition, { payload: Buffer.alloc(0), sequence: 1 }, above("unknown"));
      found.push(reachOf(nextCall(options), definition));
      found.push(reachOf(nextCall(options), { ...definition }));
    });
    // Only once the serializer of that definition takes kept requests, and not with a copy of it.
    expect(found).toEqual(["foreign", "open", "foreign"]);
  });

  it("asks the definition for its serializer at each message", async () => {
    const answer = await bottom(({ method_definition: definition }) => {
      const { requestSerialize } = definition;
      definition.requestSerialize = () =>
        requestSerialize({ payload: Buffer.alloc(0), sequence: 7 });
    });
    expect(answer).toMatchObject({ sequence: 7 });
  });

  it("makes a definition for each call", async () => {
    const seen = new Set<object>();
    const note = ({ method_definition: definition }: InterceptorOptions) => seen.add(definition);
    await bottom(note);
    await bottom(note);
    expect(seen.size).toBe(2);
  });

  it("drops what is attached to metadata when it clones, and shares the options", () => {
    const options = { waitForReady: true };
    const metadata = new Metadata(options);
    metadata.setOpaque("mine", 1);
    expect(metadata.clone().getOpaque("mine")).toBeUndefined();
    expect(metadata.clone().getOptions()).toBe(options);
    const copy = copyMetadata(metadata);
    expect(copy.getOpaque("mine")).toBe(1);
    expect(copy.getOptions()).toEqual(options);
    expect(copy.getOptions()).not.toBe(options);
  });
});

describe("kept metadata", () => {
  it("is copied once, however many keep it", () => {
    const given = new Metadata();
    const kept = keepMetadata(given);
    expect(kept).not.toBe(given);
    expect(keepMetadata(kept)).toBe(kept);
  });

  it("is lent as a copy, and what is not kept as it is", () => {
    const given = new Metadata();
    expect(lendMetadata(given)).toBe(given);
    const kept = keepMetadata(given);
    const lent = lendMetadata(kept);
    expect(lent).not.toBe(kept);
    expect(keepMetadata(lent)).not.toBe(lent);
  });
});

describe("a kept request", () => {
  const message = () => ({ payload: Buffer.alloc(0), sequence: 1 });
  const { requestSerialize } = optionsOf().method_definition;

  it("is given to somebody else as the caller's own object while the call is made, then as a copy", () => {
    const { method_definition: definition } = optionsOf();
    const seen: unknown[] = [];
    const call = new FakeCall();
    call.sendMessageWithContext = (_context, sent) => seen.push(sent);
    const given = message();
    const kept = keepRequest(definition, given, above(reachOf(call, definition)));
    handOn(call, definition, {}, kept);
    kept.settle(above(reachOf(call, definition)));
    given.sequence = 2;
    handOn(call, definition, {}, kept);
    handOn(call, definition, {}, kept);
    expect(seen[0]).toBe(given);
    expect(seen.slice(1)).toEqual([message(), message()]);
    expect(seen[1]).not.toBe(seen[2]);
  });

  it("is serialized where it is known that only grpc-js comes below, and never again", () => {
    let times = 0;
    const definition = {
      ...optionsOf().method_definition,
      requestSerialize(given: unknown) {
        times += 1;
        return requestSerialize(given);
      },
    };
    const given = message();
    const kept = keepRequest(definition, given, above("open"));
    kept.settle(above("open"));
    given.sequence = 2;
    expect(definition.requestSerialize(kept)).toEqual(requestSerialize(message()));
    expect(kept.bytes).toEqual(requestSerialize(message()));
    expect(times).toBe(1);
  });

  it("stays as it is when it is kept again, or its definition is frozen", () => {
    const frozen = Object.freeze({
      ...optionsOf().method_definition,
      requestSerialize: (given: unknown) => requestSerialize(given),
    });
    const given = message();
    const kept = keepRequest(frozen, given, above("open"));
    kept.settle(above("foreign"));
    expect(keepRequest(frozen, kept, above("open"))).toBe(kept);
    given.sequence = 2;
    expect(kept.message()).toEqual(message());
  });
});
