import { existsSync } from "node:fs";
import {
  type Browser,
  type BrowserContextOptions,
  chromium,
  type Locator,
  type Page,
} from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from "vitest";
import { PageFixture } from "./page-fixture.js";

const { CI, CHROMIUM } = process.env;

/** Where distributions put it. */
const usualPlaces = ["chromium", "chromium-browser", "google-chrome"].map(
  (name) => `/usr/bin/${name}`,
);

const browserPath = CHROMIUM ?? usualPlaces.find((path) => existsSync(path));

/** What the tests of the page share: a viewer with made-up data, and pages of a real browser. */
export class PageScene {
  viewer = new PageFixture();
  /** What a page must not do: errors and warnings in its console, and requests to other hosts. */
  problems: string[] = [];
  #browser: Browser | undefined;

  async start(): Promise<void> {
    if (browserPath === undefined) throw new Error("there is no Chromium; CHROMIUM may name one");
    this.#browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox"] });
  }

  async stop(): Promise<void> {
    await this.#browser?.close();
  }

  async begin(): Promise<void> {
    this.viewer = new PageFixture();
    this.problems = [];
    await this.viewer.listen();
  }

  async end(): Promise<void> {
    for (const context of this.#browser?.contexts() ?? []) await context.close();
    await this.viewer.close();
  }

  /** Opens the page at an address, such as `#/board`, in a browser that remembers nothing. */
  async open(
    hash: string,
    options: BrowserContextOptions = {},
    url: string = this.viewer.url,
  ): Promise<Page> {
    if (this.#browser === undefined) throw new Error("the browser does not run");
    const context = await this.#browser.newContext({
      viewport: { width: 1280, height: 720 },
      timezoneId: "UTC",
      // Else each look at an element would wait for its colours to come to rest.
      reducedMotion: "reduce",
      ...options,
    });
    context.setDefaultTimeout(8_000);
    const page = await context.newPage();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.problems.push(message.text());
    });
    page.on("pageerror", (error) => this.problems.push(String(error)));
    page.on("request", (request) => {
      const { host } = new URL(request.url());
      if (host !== new URL(url).host) this.problems.push(`asks ${host}`);
    });
    await page.goto(`${url}/${hash}`);
    return page;
  }
}

/**
 * Tests in a real browser. Without one they are skipped, and fail in CI. After each of them the page must have had no
 * error, and must have asked nobody but its viewer.
 */
export function inBrowser(what: string, tests: (scene: PageScene) => void): void {
  const missing = browserPath === undefined;
  const reason = missing ? " (needs a Chromium; CHROMIUM may name one)" : "";
  describe.skipIf(missing && CI === undefined)(`${what}${reason}`, () => {
    const scene = new PageScene();
    beforeAll(() => scene.start());
    afterAll(() => scene.stop());
    beforeEach(() => scene.begin());
    afterEach(() => scene.end());
    afterEach(() => {
      expect(scene.problems).toEqual([]);
    });
    tests(scene);
  });
}

/** The text of an element in one line. */
export async function textOf(element: Locator): Promise<string> {
  const text = await element.innerText();
  return text.replaceAll(/\s+/g, " ").trim();
}

export async function textsOf(elements: Locator): Promise<readonly string[]> {
  const texts = await elements.allInnerTexts();
  return texts.map((text) => text.replaceAll(/\s+/g, " ").trim());
}
