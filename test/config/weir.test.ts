import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CallOptions } from "@grpc/grpc-js";
import { createWeir, InvalidOptionError, type Weir } from "grpc-weir";
import { methodRegistry, staticValue } from "grpc-weir/client";
import { fileSource, objectSource } from "grpc-weir/config";
import { afterEach, describe, expect, it, vi } from "vitest";

const method = "shop.v1.Stock/Reserve";

/** What a weir says of one option of the only client, and who says it. */
function told(weir: Weir, option: string, of = method): string {
  const [client] = weir.explainPolicy(of).clients;
  const setting = client?.settings.find((each) => each.option === option);
  return setting === undefined ? "absent" : `${JSON.stringify(setting.value)} ${setting.from}`;
}

const weirOf = (data: Record<string, unknown>) => createWeir({ policies: objectSource(data) });

afterEach(() => {
  vi.unstubAllEnvs();
});

describe("policies as data", () => {
  const data = {
    client: { retry: { maxAttempts: 2, maxDepth: 2 }, deadline: { default: "2s" } },
    methods: [
      { name: "shop.v1.Stock/*", retry: { maxAttempts: 3 }, bulkhead: { maxConcurrent: 7 } },
      { name: method, retry: { maxAttempts: 4 }, throttle: {} },
    ],
  };

  it("hold where the code says nothing, the narrowest entry first", () => {
    const weir = weirOf(data);
    const inUse = weir.client();

    expect(told(weir, "retry.maxAttempts")).toBe("4 data");
    expect(told(weir, "retry.maxAttempts", "shop.v1.Stock/List")).toBe("3 data");
    expect(told(weir, "retry.maxAttempts", "shop.v1.Orders/List")).toBe("2 data");
    expect(told(weir, "retry.maxDepth")).toBe("2 data");
    expect(told(weir, "bulkhead.maxConcurrent")).toBe("7 data");
    expect(told(weir, "throttle")).toBe('"on" data');
    expect(told(weir, "breaker")).toBe('"on" default');
    expect(inUse.interceptors).toHaveLength(1);
  });

  it("give way to the code, whichever entry the code says it in", () => {
    const weir = weirOf(data);
    const inUse = weir.client({
      retry: { maxAttempts: 9 },
      methods: { [method]: { throttle: false } },
    });

    expect(told(weir, "retry.maxAttempts")).toBe("9 code");
    expect(told(weir, "retry.maxDepth")).toBe("2 data");
    expect(told(weir, "throttle")).toBe("false code");
    const { retry = { instances: [] }, throttle } = weir.snapshot().policies;
    expect(retry.instances).toHaveLength(1);
    expect(throttle).toBeUndefined();
    expect(inUse.interceptors).toHaveLength(1);
  });

  it("give way to a policy that the code leaves out", () => {
    const weir = weirOf(data);
    const inUse = weir.client({ retry: false });

    expect(told(weir, "retry")).toBe("false code");
    expect(weir.snapshot().policies.retry).toBeUndefined();
    expect(inUse.interceptors).toHaveLength(1);
  });

  it("are joined with what only the code can say", () => {
    const weir = weirOf({
      client: {
        fallback: { reserve: "0.1s" },
        bulkhead: { partitions: { reads: { share: 0.5 } } },
      },
    });
    const inUse = weir.client({
      fallback: { providers: [staticValue({})] },
      bulkhead: { partition: () => "reads" },
    });

    expect(told(weir, "fallback.reserveMs")).toBe("100 data");
    expect(told(weir, "bulkhead.partition")).toBe('"a function" code');
    expect(inUse.interceptors).toHaveLength(1);
  });

  it("refuse to work without it, and say where the data is", () => {
    const weir = weirOf({ client: { fallback: { reserve: "0.1s" } } });

    expect(() => weir.client()).toThrow(
      /client\.fallback\.providers must be .* \(with policies\)$/,
    );
  });

  it("hold for servers, and for guards, which need no options in the code then", async () => {
    const weir = weirOf({
      server: { bulkhead: { maxConcurrent: 3 }, deadlineGuardOff: true },
      guards: [{ name: "db", bulkhead: { maxConcurrent: 1, maxQueued: 0 } }],
    });
    const inUse = weir.server({ bulkhead: { maxQueued: 0 } });

    const [server] = weir.explainPolicy(method).servers;
    expect(server?.settings.map(({ option, from }) => `${option} ${from}`)).toEqual([
      "bulkhead.maxQueued code",
      "bulkhead.maxConcurrent data",
      "deadlineGuard data",
    ]);
    expect(weir.snapshot().policies["deadline-guard"]).toBeUndefined();
    const guard = weir.guard("db");
    const first = guard.run(() => new Promise((resolve) => setImmediate(resolve)));
    await expect(guard.run(() => 1)).rejects.toMatchObject({ reason: "BULKHEAD_FULL" });
    await first;
    expect(() => weir.guard("other")).toThrow(InvalidOptionError);
    expect(inUse.interceptors).toBeDefined();
  });

  it("are told with the line of their file", () => {
    const folder = mkdtempSync(join(tmpdir(), "weir-policies-"));
    try {
      const file = join(folder, "policies.yaml");
      writeFileSync(file, "client:\n  retry:\n    maxAttempts: 7\n");
      const weir = createWeir({ policies: fileSource(file, { pollMs: false }) });
      const inUse: CallOptions = weir.client();

      expect(weir.explainPolicy(method).text).toMatch(
        /^ {2}retry\.maxAttempts +7 +data \(.*policies\.yaml:3\)$/m,
      );
      expect(inUse).toBeDefined();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("are refused while the weir is created", () => {
    expect(() => createWeir({ policies: fileSource("/no/such/file.yaml") })).toThrow(
      /^policies cannot be read: ENOENT/,
    );
    expect(() => weirOf({ clients: {} })).toThrow(
      /policies clients is not a field.*did you mean client/,
    );
    expect(() => createWeir({ policies: {} as never })).toThrow(
      /createWeir\.policies must be a source/,
    );
    expect(() => objectSource([] as never)).toThrow(InvalidOptionError);
    expect(() => fileSource("")).toThrow(InvalidOptionError);
  });

  it("name no method that the schema does not have", () => {
    const weir = weirOf({ methods: [{ name: "shop.v1.Stock/Reserv", retryOff: true }] });
    const methods = { reserve: { name: "Reserve", options: { idempotencyLevel: "IDEMPOTENT" } } };
    const idempotency = methodRegistry({ fullName: "shop.v1.Stock", methods });

    expect(() => weir.client({ idempotency })).toThrow(
      /must be a method of shop\.v1\.Stock: Reserve/,
    );
  });
});

describe("an explanation of policies", () => {
  it("knows what the schema says", () => {
    const weir = createWeir();
    const inUse = weir.client({ idempotency: methodRegistry({ [method]: "idempotent" }) });

    expect(told(weir, "retry.idempotent")).toBe("true schema");
    expect(told(weir, "retry.idempotent", "shop.v1.Stock/Other")).toBe("absent");
    expect(inUse).toBeDefined();
  });

  it("is refused for what is no method", () => {
    expect(() => createWeir().explainPolicy("shop.v1.Stock")).toThrow(
      /explainPolicy\.method must be named/,
    );
  });
});

describe("the variables of the environment", () => {
  it("set the mode of a policy, under what the program sets", () => {
    vi.stubEnv("GRPC_WEIR_MODE_BREAKER", "off");
    const weir = createWeir();
    const inUse = weir.client({ breaker: { mode: "enforce" } });

    expect(weir.policy("breaker").mode).toBe("off");
    expect(told(weir, "breaker.mode")).toBe('"enforce" code');
    expect(weir.explainPolicy(method).text).toMatch(/breaker\.mode +off +environment/);
    weir.policy("breaker").mode = "observe";
    expect(weir.policy("breaker").mode).toBe("observe");
    expect(inUse).toBeDefined();
  });

  it("hold all policies back, and start none", () => {
    vi.stubEnv("GRPC_WEIR_MODE", "observe");
    vi.stubEnv("GRPC_WEIR_MODE_RETRY", "enforce");
    const weir = createWeir();
    const inUse = weir.client({ breaker: { mode: "off" }, throttle: {} });

    expect(weir.policy("throttle").mode).toBe("observe");
    expect(weir.policy("breaker").mode).toBe("off");
    expect(weir.policy("retry").mode).toBe("enforce");
    expect(inUse).toBeDefined();
  });

  it.each([
    ["GRPC_WEIR_MODE", "enforce", "GRPC_WEIR_MODE must be one of observe, off"],
    ["GRPC_WEIR_MODE_BREAKER", "on", "GRPC_WEIR_MODE_BREAKER must be one of enforce, observe, off"],
    ["GRPC_WEIR_MODE_BRAKER", "off", "GRPC_WEIR_MODE_BRAKER is not a variable"],
  ])("are refused when they make no sense: %s=%s", (name, value, problem) => {
    vi.stubEnv(name, value);

    expect(() => createWeir()).toThrow(problem);
  });

  it("change nothing when they are empty", () => {
    vi.stubEnv("GRPC_WEIR_MODE", "");
    vi.stubEnv("GRPC_WEIR_MODE_RETRY", "");
    const weir = createWeir();
    const inUse = weir.client();

    expect(weir.policy("retry").mode).toBe("enforce");
    expect(inUse).toBeDefined();
  });
});
