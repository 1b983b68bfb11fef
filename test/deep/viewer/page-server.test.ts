import { get, request } from "node:http";
import { connect } from "node:net";
import { SpanKind } from "@opentelemetry/api";
import { BasicTracerProvider } from "@opentelemetry/sdk-trace-base";
import {
  type CallsView,
  type DemoChange,
  type DemoState,
  type LiveCalls,
  type TraceView,
  type TraceViewer,
  traceViewer,
} from "grpc-weir/viewer";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

let viewer: TraceViewer;
let provider: BasicTracerProvider;
const changes: DemoChange[] = [];

beforeAll(async () => {
  let load = 1;
  viewer = await traceViewer({
    port: 0,
    demo: {
      state: () => demoState(load),
      change: (change) => {
        changes.push(change);
        for (const value of Object.values(change)) if (typeof value === "number") load = value;
      },
    },
  });
  provider = new BasicTracerProvider({ spanProcessors: [viewer.spanProcessor] });
});

afterAll(() => viewer.close());

function demoState(value: number): DemoState {
  const slider = { name: "load", label: "Load", unit: "×", min: 0, max: 5, step: 0.5, value };
  const nothing = { phase: "", running: true, ways: [], seconds: [], table: [] };
  return { title: "An incident", sliders: [slider], ...nothing };
}

const rpc = { "rpc.method": "shop.v1.Shop/List", "rpc.status_code": "OK" };

/** Makes a call of this process. Returns the id of its trace. */
function call(): string {
  const span = provider
    .getTracer("grpc-weir")
    .startSpan("List", { kind: SpanKind.CLIENT, attributes: rpc });
  span.end();
  return span.spanContext().traceId;
}

interface Reply {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

/** A request with headers and paths that `fetch` would not send. */
function ask(
  path: string,
  headers: Record<string, string> = {},
  method = "GET",
  body = "",
): Promise<Reply> {
  const { port } = new URL(viewer.url);
  return new Promise((resolve, reject) => {
    const asked = request(
      { host: "127.0.0.1", port, path, headers, method, agent: false },
      (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("end", () =>
          resolve({ status: response.statusCode, headers: response.headers, text }),
        );
      },
    );
    asked.on("error", reject);
    asked.end(body);
  });
}

describe("the page", () => {
  it("is served with a policy that lets it load its own files alone", async () => {
    const { status, headers, text } = await ask("/");
    expect(status).toBe(200);
    expect(text).toContain("<!doctype html>");
    expect(headers).toMatchObject({
      "content-type": "text/html; charset=utf-8",
      "content-security-policy":
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
    });
  });

  it.each<Record<string, string>>([
    { origin: "http://evil.example" },
    { "sec-fetch-site": "cross-site" },
  ])("gives a page of another site nothing, and no place in the live feed: %j", async (headers) => {
    for (const path of ["/api/calls", "/api/board", "/api/live", "/api/demo"]) {
      expect(await ask(path, headers)).toMatchObject({ status: 403 });
    }
  });

  it("lets no other page read it", async () => {
    const { headers } = await ask("/api/calls", { origin: "http://evil.example" });
    expect(Object.keys(headers).filter((name) => name.startsWith("access-control-"))).toEqual([]);
    expect(headers["cross-origin-resource-policy"]).toBe("same-origin");
  });

  it.each(["localhost", "localhost:4319", "127.0.0.1:9", "[::1]:9", "LOCALHOST"])(
    "answers under the name %s",
    async (host) => {
      expect(await ask("/api/calls", { host })).toMatchObject({ status: 200 });
    },
  );

  it.each([
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example:4319",
    "10.0.0.1",
  ])("refuses the name %j", async (host) => {
    expect(await ask("/api/calls", { host })).toMatchObject({ status: 421 });
  });

  it.each([
    "/../package.json",
    "/assets/../../package.json",
    "/%2e%2e/package.json",
    "/..%2f..%2fpackage.json",
    "/assets/%00",
    "//etc/passwd",
    "/api/traces/../../package.json",
    "/api/none",
    "/__proto__",
    "/constructor",
  ])("has nothing at %s", async (path) => {
    const { status, text } = await ask(path);
    expect(status).toBe(404);
    expect(JSON.parse(text)).toHaveProperty("error");
  });

  it("is only read", async () => {
    expect(await ask("/", {}, "POST")).toMatchObject({
      status: 405,
      headers: { allow: "GET, HEAD" },
    });
    expect(await ask("/", {}, "HEAD")).toMatchObject({ status: 200, text: "" });
  });

  it("survives a request whose sender goes away before the answer", async () => {
    const headers = {
      "content-type": "application/json",
      "content-length": "100",
      expect: "100-continue",
    };
    const { port } = new URL(viewer.url);
    const half = request({ host: "127.0.0.1", port, path: "/api/demo", method: "POST", headers });
    half.on("error", () => {});
    half.write("{");
    await new Promise((resolve) =>
      half.once("socket", (socket) => socket.once("connect", resolve)),
    );
    half.destroy();
    expect(await ask("/api/demo")).toMatchObject({ status: 200 });
  });

  it("survives what is no HTTP", async () => {
    const socket = connect(Number(new URL(viewer.url).port), "127.0.0.1");
    socket.end("nonsense\r\n\r\n");
    await new Promise((resolve) => socket.on("close", resolve).resume());
    expect(await ask("/")).toMatchObject({ status: 200 });
  });
});

describe("the calls", () => {
  it("of this process are shown, with their traces", async () => {
    const traceId = call();
    const calls: CallsView = JSON.parse((await ask(`/api/calls?q=${traceId}`)).text);
    expect(calls).toMatchObject({ total: 1, calls: [{ traceId, method: "shop.v1.Shop/List" }] });
    const trace: TraceView = JSON.parse((await ask(`/api/traces/${traceId}`)).text);
    expect(trace.spans).toHaveLength(1);
  });

  it("are not searched by nonsense", async () => {
    const { status, text } = await ask("/api/calls?minMs=soon");
    expect(status).toBe(400);
    expect(text).toContain("minMs is a number");
  });

  it("of a trace that is not known are not found", async () => {
    expect(await ask("/api/traces/0af7651916cd43dd8448eb211c80319c")).toMatchObject({
      status: 404,
    });
  });
});

describe("the live feed", () => {
  const open: (() => void)[] = [];
  afterEach(() => {
    for (const close of open.splice(0)) close();
  });

  /** Listens until an event of this name comes, after something that brings it about. */
  function next<T>(name: string, cause: () => unknown = () => {}): Promise<T> {
    return new Promise((resolve, reject) => {
      const listening = get(`${viewer.url}/api/live`, (response) => {
        expect(response.headers["content-type"]).toBe("text/event-stream");
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
          const [, data] = new RegExp(`event: ${name}\ndata: (.*)\n\n`).exec(text) ?? [];
          if (data !== undefined) resolve(JSON.parse(data));
        });
        cause();
      });
      listening.on("error", reject);
      open.push(() => listening.destroy());
    });
  }

  it("has calls as they end", async () => {
    const { calls, skipped } = await next<LiveCalls>("calls", call);
    expect(calls).toMatchObject([{ method: "shop.v1.Shop/List" }]);
    expect(skipped).toBe(0);
  });

  it("is no stream for who asks for its headers alone", async () => {
    expect(await ask("/api/live", {}, "HEAD")).toMatchObject({ status: 200, text: "" });
  });

  it("has the board each second", async () => {
    expect(await next("board")).toHaveProperty("goodput");
  });

  it("has the demo when it is changed", async () => {
    const change = () =>
      ask("/api/demo", { "content-type": "application/json" }, "POST", '{"command":"reset"}');
    expect(await next<DemoState>("demo", change)).toMatchObject({ title: "An incident" });
  });
});

describe("the demo", () => {
  const json = { "content-type": "application/json" };
  const change = (headers: Record<string, string>, body = '{"load":2}') =>
    ask("/api/demo", headers, "POST", body);

  it("is read and changed by its page", async () => {
    expect(await ask("/api/demo")).toMatchObject({ status: 200 });
    const { host } = new URL(viewer.url);
    const { status, text } = await change(
      { ...json, origin: `http://${host}`, host, "sec-fetch-site": "same-origin" },
      '{"load":4}',
    );
    expect(status).toBe(200);
    expect(JSON.parse(text)).toMatchObject({ sliders: [{ value: 4 }] });
    expect(changes.at(-1)).toEqual({ load: 4 });
  });

  it.each([
    [{ ...json, origin: "http://evil.example" }, 403],
    [{ ...json, origin: "null" }, 403],
    [{ ...json, "sec-fetch-site": "cross-site" }, 403],
    [{ ...json, "sec-fetch-site": "same-site" }, 403],
    [{ "content-type": "text/plain" }, 415],
    [{ "content-type": "application/x-www-form-urlencoded" }, 415],
  ])("is not changed by a request with %j", async (headers, status) => {
    const before = changes.length;
    expect(await change(headers)).toMatchObject({ status });
    expect(changes).toHaveLength(before);
  });

  it("is not changed by nonsense", async () => {
    expect(await change(json, "{")).toMatchObject({ status: 400 });
    expect(await change(json, " ".repeat(20_000))).toMatchObject({ status: 413 });
    expect(await ask("/api/demo", json, "DELETE")).toMatchObject({ status: 405 });
  });

  it("is nothing where none runs", async () => {
    const without = await traceViewer({ port: 0 });
    try {
      expect(await fetch(`${without.url}/api/demo`)).toMatchObject({ status: 204 });
      const start = { method: "POST", body: '{"command":"start"}' };
      expect(await fetch(`${without.url}/api/demo`, start)).toMatchObject({ status: 404 });
    } finally {
      await without.close();
    }
  });
});

describe("ports", () => {
  it("that are in use are told", async () => {
    const port = Number(new URL(viewer.url).port);
    await expect(traceViewer({ port })).rejects.toMatchObject({
      name: "PortError",
      message: `port ${port} for the page is in use`,
    });
  });

  it("are all closed when one is in use", async () => {
    const taken = Number(new URL(viewer.url).port);
    const attempt = traceViewer({ port: 0, otlp: { grpcPort: 0, httpPort: taken } });
    await expect(attempt).rejects.toThrow("for OTLP over HTTP is in use");
  });

  it("that nobody asked for are given up for free ones", async () => {
    const [first, second] = await Promise.all([traceViewer(), traceViewer()]);
    try {
      expect(first.url).not.toBe(second.url);
    } finally {
      await Promise.all([first.close(), second.close()]);
    }
  });

  it("are closed for all who close the viewer", async () => {
    const one = await traceViewer({ port: 0, otlp: { grpcPort: 0, httpPort: 0 } });
    const order: string[] = [];
    await Promise.all([
      one.close().then(() => order.push("first")),
      one.close().then(() => order.push("second")),
    ]);
    expect(order).toEqual(["first", "second"]);
    await one.close();
  });

  it("are free after the end, with pages open", async () => {
    const one = await traceViewer({ port: 0 });
    const listening = get(`${one.url}/api/live`);
    await new Promise((resolve) => listening.on("response", resolve));
    listening.on("error", () => {});
    await one.close();
    const port = Number(new URL(one.url).port);
    const again = await traceViewer({ port });
    await again.close();
    expect(again.url).toBe(one.url);
  });
});
