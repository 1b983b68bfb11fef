import axe, { type AxeResults } from "axe-core";
import type { Page } from "playwright-core";
import { expect, it } from "vitest";
import { inBrowser, type PageScene } from "./page-scene.js";
import { boardPoints, demoState, traceIdOf } from "./page-scenes.js";

const incident = `#/trace/${traceIdOf(7)}?span=0000000000000006`;

/** Each view, in the state in which it has the most on it. */
const views: readonly (readonly [string, string, (page: Page) => Promise<void>])[] = [
  ["the calls", "#/calls?minMs=1", (page) => page.locator(".call-rows a").first().waitFor()],
  [
    "a trace",
    incident,
    async (page) => {
      await page.locator(".span-rows [role=row]").first().waitFor();
      await page.getByRole("treegrid").press("Enter");
      await page.getByRole("complementary").waitFor();
    },
  ],
  [
    "a trace as a table",
    incident,
    async (page) => {
      await page.getByRole("treegrid").press("t");
      await page.getByRole("table").waitFor();
    },
  ],
  [
    "the board",
    "#/board",
    async (page) => {
      await page.locator("canvas").nth(3).waitFor();
      await page.getByText("Values").first().click();
    },
  ],
  ["the comparison", "#/compare", (page) => page.getByRole("table").waitFor()],
  [
    "the help",
    "#/calls",
    async (page) => {
      await page.locator(".call-rows a").first().waitFor();
      await page.keyboard.press("?");
      await page.getByRole("dialog").waitFor();
    },
  ],
];

function fill({ viewer }: PageScene): void {
  viewer.add(24);
  viewer.board = boardPoints(90);
  viewer.demo = demoState();
}

/** What axe calls serious or critical, as one line each. */
async function seriousFaults(page: Page): Promise<readonly string[]> {
  await page.evaluate(axe.source);
  const { violations }: AxeResults = await page.evaluate("axe.run()");
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`);
}

inBrowser("for everybody", (scene) => {
  it.each(views)(
    "%s has no serious fault, light or dark, wide or narrow",
    async (_view, hash, show) => {
      fill(scene);
      const page = await scene.open(hash);
      await show(page);
      for (const width of [1280, 320]) {
        await page.setViewportSize({ width, height: 640 });
        await expect.poll(() => page.evaluate("document.documentElement.scrollWidth")).toBe(width);
        for (const colorScheme of ["light", "dark"] as const) {
          await page.emulateMedia({ colorScheme });
          expect(await seriousFaults(page)).toEqual([]);
        }
      }
    },
    // Each view is searched four times.
    60_000,
  );

  it("the theme is that of the system, until another is chosen, which is remembered", async () => {
    const page = await scene.open("#/calls", { colorScheme: "dark" });
    const isDark = async () => {
      const color: string = await page.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor",
      );
      const [red = "255"] = /\d+/.exec(color) ?? [];
      return Number(red) < 128;
    };
    await page.getByText("No calls yet.").waitFor();
    expect(await isDark()).toBe(true);
    await page.emulateMedia({ colorScheme: "light" });
    expect(await isDark()).toBe(false);
    await page.keyboard.press("d");
    await page.keyboard.press("d");
    await page.getByRole("button", { name: "Theme: dark" }).waitFor();
    expect(await isDark()).toBe(true);
    await page.reload();
    await page.getByRole("button", { name: "Theme: dark" }).waitFor();
    expect(await isDark()).toBe(true);
  });

  it("single keys can be switched off, for those who dictate", async () => {
    scene.viewer.add(3);
    const page = await scene.open("#/calls");
    await page.getByRole("button", { name: "Pause" }).waitFor();
    await page.keyboard.press("?");
    await page.getByLabel("Single keys are shortcuts").uncheck();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "hidden" });
    await page.keyboard.press("2");
    await page.keyboard.press("p");
    expect(new URL(page.url()).hash).toBe("#/calls");
    expect(await page.getByRole("button", { name: "Resume" }).count()).toBe(0);
  });

  it("views are reached by their keys, and the focus goes to what they show", async () => {
    fill(scene);
    const page = await scene.open("#/calls");
    await page.getByRole("link", { name: "Compare" }).waitFor();
    const focused = (): Promise<string> =>
      page.evaluate("document.activeElement.textContent.slice(0, 8)");
    await page.keyboard.press("3");
    await page.getByRole("heading", { name: "An incident" }).waitFor();
    await expect.poll(focused).toBe("Stop");
    await page.keyboard.press("2");
    await page.getByRole("figure", { name: "Latency" }).waitFor();
    expect(await page.title()).toBe("Board · grpc-weir");
    await page.keyboard.press("1");
    await expect.poll(focused).toBe("StartSta");
  });

  it("screen readers are told of new calls, and not at every one", async () => {
    scene.viewer.add(3);
    const page = await scene.open("#/calls");
    const told = page.locator('[role=status][aria-live="polite"]');
    await expect.poll(() => told.first().innerText()).toMatch(/Loading|3 calls/);
    await expect.poll(() => scene.viewer.listeners).toBe(1);
    const before = await told.first().innerText();
    for (let calls = 0; calls < 5; calls += 1) scene.viewer.sendCalls(1);
    await page.locator('[aria-rowindex="9"]').waitFor();
    expect(await told.first().innerText()).toBe(before);
    await expect.poll(() => told.first().innerText(), { timeout: 6_000 }).toBe("8 calls");
  });
});
