import {
  InterceptingCall,
  type Interceptor,
  Metadata,
  ServerInterceptingCall,
  status,
} from "@grpc/grpc-js";
import { afterEach, describe, expect, it } from "vitest";
import {
  ConformanceServiceClient,
  ConformanceServiceService,
  type UnaryRequest,
} from "../../../src/gen/weir/v1/conformance.js";
import { loopbackTransport } from "../../../src/testing/loopback/loopback.js";
import type { Link, LinkSetup } from "../../../src/testing/transport.js";

const request: UnaryRequest = { payload: Buffer.from("water"), sequence: 1 };

/** Handlers that are called and never answer. */
const silent = {
  unary: () => {},
  clientStream: () => {},
  serverStream: () => {},
  bidiStream: () => {},
};

describe("the loopback transport", () => {
  const links: Link[] = [];
  afterEach(async () => {
    for (const link of links.splice(0)) await link.close();
  });

  async function open(setup: Partial<LinkSetup> = {}): Promise<Link> {
    const link = await loopbackTransport().open({
      service: ConformanceServiceService,
      implementation: silent,
      ...setup,
    });
    links.push(link);
    return link;
  }

  /** Makes a call; gives what cancels it and its status. */
  function call(link: Link, interceptors: Interceptor[] = []) {
    const client = link.client(ConformanceServiceClient);
    let cancel = () => {};
    const ended = new Promise<status>((resolve) => {
      const options = { interceptors };
      const made = client.unary(request, new Metadata(), options, (error) =>
        resolve(error?.code ?? status.OK),
      );
      cancel = () => made.cancel();
    });
    return { ended, cancel };
  }

  async function inFlight(link: Link, count: number): Promise<void> {
    while (link.inFlight() !== count) await link.pass(1);
  }

  it("counts a call on the client and on the server until it has ended on both", async () => {
    const link = await open();
    expect(link.inFlight()).toBe(0);
    const { ended, cancel } = call(link);
    expect(link.inFlight()).toBe(1);
    await inFlight(link, 2);
    cancel();
    expect(await link.until(ended)).toBe(status.CANCELLED);
    await inFlight(link, 0);
  });

  it("counts a call whose own interceptors replace those of the client", async () => {
    const link = await open();
    const { ended, cancel } = call(link, [
      (options, nextCall) => new InterceptingCall(nextCall(options)),
    ]);
    expect(link.inFlight()).toBe(1);
    cancel();
    await link.until(ended);
    await inFlight(link, 0);
  });

  it("does not count a call that a server interceptor answers before it starts it", async () => {
    const link = await open({
      serverInterceptors: [
        (_method, inner) => {
          inner.sendStatus({ code: status.RESOURCE_EXHAUSTED, details: "full" });
          return new ServerInterceptingCall(inner);
        },
      ],
    });
    expect(await link.until(call(link).ended)).toBe(status.RESOURCE_EXHAUSTED);
    await inFlight(link, 0);
  });

  it("cuts calls and refuses new ones after a crash", async () => {
    const link = await open();
    const { ended } = call(link);
    await inFlight(link, 2);
    await link.crash();
    expect(await link.until(ended)).toBe(status.UNAVAILABLE);
    expect(await link.until(call(link).ended)).toBe(status.UNAVAILABLE);
    await inFlight(link, 0);
  });

  it("does not wait for ever", async () => {
    const link = await open();
    await expect(link.until(new Promise(() => {}), 20)).rejects.toThrow("within 20 ms");
    await expect(link.until(Promise.reject(new Error("dry")))).rejects.toThrow("dry");
  });

  it("refuses interceptor providers, which it cannot count behind", async () => {
    await expect(open({ clientOptions: { interceptor_providers: [] } })).rejects.toThrow(TypeError);
  });
});
