import {
  Channel,
  Client,
  type ClientOptions,
  credentials,
  InterceptingCall,
  type Interceptor,
} from "@grpc/grpc-js";
import { expect, it } from "vitest";
import { createWeir } from "../../../src/weir.js";

const target = "ipv4:127.0.0.1:1";

/** What is said of the options after they were used twice. */
function told(own: ClientOptions, use: (options: ClientOptions) => { close(): void }) {
  const errors: unknown[] = [];
  const weir = createWeir({ onError: (error) => errors.push(error) });
  const options = weir.client({}, own);
  use(options).close();
  use(options).close();
  return errors;
}

const channelOf = (options: ClientOptions) =>
  new Channel(target, credentials.createInsecure(), options);
const clientOf = (options: ClientOptions) =>
  new Client(target, credentials.createInsecure(), options);

const passing: Interceptor = (options, next) => new InterceptingCall(next(options));

const lists: readonly (readonly [string, ClientOptions])[] = [
  ["interceptors", {}],
  ["providers of interceptors", { interceptor_providers: [() => passing] }],
  ["interceptors beside an option of the user", { "grpc.enable_channelz": 0 }],
];

it.each(lists)("says once that a channel ignores %s", (_what, own) => {
  const errors = told(own, channelOf);
  expect(errors.map(String)).toEqual([expect.stringContaining("weir.channel()")]);
});

it.each(lists)("says nothing to a client with %s", (_what, own) => {
  expect(told(own, clientOf)).toEqual([]);
});

it("says nothing of a channel of the weir", () => {
  const errors: unknown[] = [];
  const weir = createWeir({ onError: (error) => errors.push(error) });
  weir.channel(target, credentials.createInsecure()).close();
  expect(errors).toEqual([]);
});

it("leaves the options as they can be read, copied and set", () => {
  const options = createWeir().client();
  const names = Object.keys(options);
  expect(names).not.toContain("grpc.enable_channelz");
  options["grpc.enable_channelz"] = 0;
  expect(options["grpc.enable_channelz"]).toBe(0);
  expect(Object.keys({ ...options }).sort()).toEqual([...names, "grpc.enable_channelz"].sort());
});

it.each(["channelOverride", "channelFactoryOverride"])(
  "a channel of the weir refuses %s",
  (name) => {
    const own = { [name]: () => {} };
    expect(() => createWeir().channel(target, credentials.createInsecure(), {}, own)).toThrow(
      `channel.own.${name} must be absent`,
    );
  },
);
