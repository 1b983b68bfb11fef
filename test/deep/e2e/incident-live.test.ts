import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, expect, it } from "vitest";
import type { CallsView, DemoState, TraceView } from "../../../src/viewer/api.js";
import { inBrowser } from "../viewer/page-scene.js";

// As `npm run test:deep` has built it.
const program = fileURLToPath(new URL("../../../build/examples/incident/main.js", import.meta.url));

/** The incident as it is played on a terminal. */
class Watched {
  output = "";
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  #heard: () => void = () => {};

  constructor() {
    const child = spawn(process.execPath, [program, "--watch"], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const hear = (chunk: Buffer) => {
      this.output += chunk.toString();
      this.#heard();
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    this.#child = child;
    this.ended = new Promise((resolve) => child.once("close", resolve));
  }

  /** Resolves with what the output has of it; rejects if the program ends before. */
  async says(text: RegExp): Promise<RegExpExecArray> {
    const found = new Promise<RegExpExecArray>((resolve) => {
      this.#heard = () => {
        const match = text.exec(this.output);
        if (match !== null) resolve(match);
      };
      this.#heard();
    });
    const early = this.ended.then(() => {
      throw new Error(`it ended without ${text}:\n${this.output}`);
    });
    return await Promise.race([found, early]);
  }

  interrupt(): void {
    this.#child.kill("SIGINT");
  }
}

async function read<T>(url: string, init?: RequestInit): Promise<T> {
  const response = await fetch(url, init);
  return (await response.json()) as T;
}

inBrowser("the incident on a terminal", (scene) => {
  let watched: Watched | undefined;

  afterEach(async () => {
    watched?.interrupt();
    await watched?.ended;
  });

  it("is shown while it is played, and can be played with until it is stopped", {
    timeout: 240_000,
  }, async () => {
    watched = new Watched();
    const [, url = ""] = await watched.says(/Watch it: (http:\S+?)\/#/);
    const demo = () => read<DemoState>(`${url}/api/demo`);
    await watched.says(/2\/7/);

    // Calls appear on the page, and the trace of one of them has all services.
    const page = await scene.open("#/calls?q=Checkout", {}, url);
    await page.locator(".call-rows [role=row]", { hasText: "Checkout" }).first().waitFor();
    const served = async () => {
      const asked = `${url}/api/calls?status=OK&service=caller`;
      const { calls } = await read<CallsView>(asked);
      return calls.at(-1)?.traceId;
    };
    await expect.poll(served, { timeout: 30_000 }).toBeDefined();
    const traceId = await served();
    const { spans } = await read<TraceView>(`${url}/api/traces/${traceId}`);
    const services = new Set(spans.map(({ service }) => service));
    expect([...services].sort()).toEqual(["caller", "edge", "inventory", "orders"]);
    await page.goto(`${url}/#/trace/${traceId}`);
    for (const { spanId } of spans) await page.locator(`[data-bar="${spanId}"]`).waitFor();

    // At its end all ways have had the same calls, in the terminal and on the page.
    await watched.says(/Ctrl-C ends it/);
    expect(watched.output).toContain("In the same incident");
    const over = await demo();
    expect(over.running).toBe(false);
    for (const { ways } of over.table) {
      const sent = Object.values(ways).map((counts) => counts.sent);
      expect(new Set(sent).size).toBe(1);
    }

    // The sliders make another incident.
    const changed = await read<DemoState>(`${url}/api/demo`, {
      method: "POST",
      headers: { "content-type": "application/json", origin: url },
      body: JSON.stringify({ load: 20, failures: 100 }),
    });
    expect(changed.running).toBe(true);
    expect(changed.sliders.find(({ name }) => name === "failures")?.value).toBe(100);
    const lastOfBare = async () => {
      const { bare } = (await demo()).seconds.at(-1)?.ways ?? {};
      return bare;
    };
    await expect
      .poll(lastOfBare, { timeout: 30_000 })
      .toMatchObject({ ok: 0, sent: expect.any(Number) });

    // It ends when it is stopped, with what it found.
    await page.close();
    watched.interrupt();
    expect(await watched.ended).toBe(watched.output.includes("Not all of this") ? 1 : 0);
  });
});
