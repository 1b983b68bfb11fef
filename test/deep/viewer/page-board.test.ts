import type { Page } from "playwright-core";
import { expect, it } from "vitest";
import { inBrowser, textOf, textsOf } from "./page-scene.js";
import { boardPoint, boardPoints, demoState } from "./page-scenes.js";

const chart = (page: Page, name: string) => page.getByRole("figure", { name, exact: true });

function legendOf(page: Page, name: string): Promise<readonly string[]> {
  return textsOf(chart(page, name).locator(".chart-legend li"));
}

inBrowser("the board", (scene) => {
  it("shows goodput, refusals, latency, admission and breakers over time", async () => {
    scene.viewer.board = boardPoints();
    const page = await scene.open("#/board");
    await page.locator("canvas").nth(3).waitFor();
    expect(await legendOf(page, "Goodput by priority")).toEqual([
      "low 12",
      "normal 35",
      "high 23",
      "critical 23",
    ]);
    expect(await legendOf(page, "Latency")).toEqual(["p50 30 ms", "p99 89 ms"]);
    expect(await legendOf(page, "Admission")).toContain("orders limit 40");
    expect(await chart(page, "Circuit breakers").innerText()).toContain("closed for 2 min 30 s");
    const inkOfFirst: number = await page.evaluate(`(() => {
      const canvas = document.querySelector("canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, at) => at % 4 === 3 && value > 0).length;
    })()`);
    expect(inkOfFirst).toBeGreaterThan(20_000);
  });

  it("goes on live, and says what was at the cursor", async () => {
    scene.viewer.board = boardPoints();
    const page = await scene.open("#/board");
    await page.locator("canvas").nth(3).waitFor();
    await expect.poll(() => scene.viewer.listeners).toBe(1);
    const last = boardPoint(600);
    scene.viewer.sendBoard({ ...last, p50Ms: 77, breakers: { "orders inventory": "open" } });
    await expect.poll(() => legendOf(page, "Latency")).toContain("p50 77 ms");
    await chart(page, "Circuit breakers").getByText("open for 1 s").waitFor();
    const box = await chart(page, "Latency").locator(".u-over").boundingBox();
    if (box === null) throw new Error("the chart has no room");
    await page.mouse.move(box.x + box.width * 0.55, box.y + 40);
    await expect.poll(() => legendOf(page, "Latency")).not.toContain("p50 77 ms");
    // The cursor is the same in all charts.
    expect(await legendOf(page, "Refusals and failures")).toContain("BREAKER_OPEN 6");
  });

  it("has its values as tables", async () => {
    scene.viewer.board = boardPoints(120);
    const page = await scene.open("#/board");
    await chart(page, "Latency").getByText("Values").click();
    const newest = chart(page, "Latency").getByRole("row").nth(1);
    expect(await textOf(newest)).toBe("10:01:59 34 ms 110 ms");
  });

  it("waits for the first call", async () => {
    const page = await scene.open("#/board");
    await page.getByText("No calls yet.").waitFor();
    await expect.poll(() => scene.viewer.listeners).toBe(1);
    for (const second of [1, 2]) scene.viewer.sendBoard(boardPoint(second));
    await page.locator("canvas").nth(3).waitFor();
    expect(await page.getByText("No calls yet.").count()).toBe(0);
  });
});

inBrowser("the comparison", (scene) => {
  it("shows what was served by phase and way, and marks the best", async () => {
    scene.viewer.demo = demoState();
    const page = await scene.open("#/compare");
    const worst = page.getByRole("row", { name: /^twice the load/ });
    await worst.waitFor();
    expect(await textOf(worst)).toBe(
      "twice the load 68 % 1 020 of 1 500 100 % 375 of 375 12 % 180 of 1 500 13 % 49 of 375 31 % 465 of 1 500 30 % 113 of 375",
    );
    expect(await worst.locator(".best").allInnerTexts()).toHaveLength(2);
    expect(await legendOf(page, "Served")).toEqual([
      "grpc-weir 68",
      "retryPolicy 12",
      "bare grpc-js 31",
    ]);
  });

  it("is steered with the keyboard: load, start and stop", async () => {
    scene.viewer.demo = demoState();
    const page = await scene.open("#/compare");
    const load = page.getByRole("slider", { name: "Load" });
    await load.focus();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    await expect.poll(() => scene.viewer.changes).toEqual([{ load: 110 }]);
    await page.getByText("110 calls/s").waitFor();
    await page.getByRole("button", { name: "Stop" }).press("Enter");
    await page.getByRole("button", { name: "Start" }).waitFor();
    await page.getByRole("button", { name: "Reset" }).press("Enter");
    await expect
      .poll(() => scene.viewer.changes)
      .toEqual([{ load: 110 }, { command: "stop" }, { command: "reset" }]);
  });

  it("is there only where a demo runs", async () => {
    const page = await scene.open("#/calls");
    await page.getByText("No calls yet.").waitFor();
    expect(await page.getByRole("link", { name: "Compare" }).count()).toBe(0);
    await page.goto(`${scene.viewer.url}/#/compare`);
    await page.getByText("No demo runs beside this viewer.").waitFor();
  });
});
