import type { Page } from "playwright-core";
import { expect, it } from "vitest";
import type { SpanView } from "../../../src/viewer/api.js";
import { inBrowser, textOf } from "./page-scene.js";
import { largeTrace, type SceneName, sceneName, sceneSpans, traceIdOf } from "./page-scenes.js";

/** The number of the first trace of a kind. */
function numberOf(name: SceneName): number {
  for (let index = 0; ; index += 1) if (sceneName(index) === name) return index;
}

const rows = (page: Page) => page.locator(".span-rows [role=row]");
const row = (page: Page, label: string) => rows(page).filter({ hasText: label });
const tree = (page: Page) => page.getByRole("treegrid", { name: "Spans of the trace" });
const details = (page: Page) => page.getByRole("complementary", { name: "Details of the span" });

/** Where the bar of each span stands on the scale, as shares of its length, and where its times say that it must. */
async function placesOf(page: Page, spans: readonly SpanView[], fromMs: number, toMs: number) {
  const ruler = await page.locator(".ruler").boundingBox();
  if (ruler === null) throw new Error("there is no scale");
  const places: { name: string; px: readonly number[]; expectedPx: readonly number[] }[] = [];
  for (const { name, spanId, startMs, endMs } of spans) {
    const box = await page.locator(`[data-bar="${spanId}"]`).boundingBox();
    const px = (atMs: number) => ruler.x + (ruler.width * (atMs - fromMs)) / (toMs - fromMs);
    places.push({
      name,
      px: box === null ? [] : [box.x, box.x + box.width],
      expectedPx: [px(startMs), px(endMs)],
    });
  }
  return places;
}

function expectInPlace(places: Awaited<ReturnType<typeof placesOf>>): void {
  for (const { name, px, expectedPx } of places) {
    const [left = Number.NaN, right = Number.NaN] = px;
    const [expectedLeft = 0, expectedRight = 0] = expectedPx;
    expect(Math.abs(left - expectedLeft), `start of ${name}`).toBeLessThan(1);
    // The shortest bar can still be seen.
    const seenRight = Math.max(expectedRight, expectedLeft + 2);
    expect(Math.abs(right - seenRight), `end of ${name}`).toBeLessThan(1);
  }
}

inBrowser("a trace", (scene) => {
  async function openTrace(name: SceneName, options = {}): Promise<Page> {
    const index = numberOf(name);
    scene.viewer.addTrace(sceneSpans(index));
    const page = await scene.open(`#/trace/${traceIdOf(index)}`, options);
    await rows(page).first().waitFor();
    return page;
  }

  it.each([1280, 360])(
    "has bars that stand where the times of its spans are, %d px wide",
    async (width) => {
      const spans = sceneSpans(numberOf("incident"));
      const page = await openTrace("incident", { viewport: { width, height: 1_600 } });
      const startMs = spans[0]?.startMs ?? 0;
      expect(await rows(page).count()).toBe(spans.length);
      expectInPlace(await placesOf(page, spans, startMs, startMs + 486));
    },
  );

  it("can be zoomed to a span and back, by key and by a drag over the scale", async () => {
    const spans = sceneSpans(numberOf("incident"));
    const page = await openTrace("incident");
    const startMs = spans[0]?.startMs ?? 0;
    await row(page, "pricing.v1.Prices/Quote").first().click();
    await page.keyboard.press("z");
    // With a margin of 5 % on each side.
    const inside = spans.filter(({ startMs: at }) => at >= startMs + 404 && at <= startMs + 446);
    const zoomed = () => placesOf(page, inside.slice(0, 3), startMs + 401.9, startMs + 448.1);
    await expect.poll(async () => (await zoomed())[0]?.px[0]).toBeGreaterThan(0);
    expectInPlace(await zoomed());
    expect(await page.locator(".tick").first().innerText()).toBe("410 ms");
    await page.keyboard.press("0");
    await expect.poll(() => page.locator(".tick").first().innerText()).toBe("0 ms");

    const ruler = await page.locator(".ruler").boundingBox();
    if (ruler === null) throw new Error("there is no scale");
    await page.mouse.move(ruler.x + ruler.width / 4, ruler.y + 10);
    await page.mouse.down();
    await page.mouse.move(ruler.x + ruler.width / 2, ruler.y + 10);
    await page.mouse.up();
    await expect.poll(() => page.locator(".tick").first().innerText()).not.toBe("0 ms");
    expectInPlace(await placesOf(page, spans.slice(0, 1), startMs + 121.5, startMs + 243));
  });

  it("says in words what happened, and where the time went", async () => {
    const page = await openTrace("retried");
    const said = page.getByRole("list", { name: "What happened" }).getByRole("listitem");
    expect(await said.allInnerTexts()).toEqual([
      "OK in 124 ms",
      "2 attempts: UNAVAILABLE (remote) after 12 ms, retried after 82 ms, OK in 30 ms",
      "Waited 82 ms between attempts",
    ]);
    const spent = page.getByRole("list", { name: "Where the time went" }).getByRole("listitem");
    expect(await spent.first().innerText()).toBe("wait: backoff 82 ms 66 %");
  });

  it("tells losers, failures and waits apart without colours", async () => {
    const page = await openTrace("incident");
    const lost = row(page, "lost to another attempt");
    expect(await textOf(lost.locator(".bar-label"))).toBe("192 ms lost");
    const styleOf = (selector: string, property: string): Promise<string> =>
      page.evaluate(`getComputedStyle(document.querySelector("${selector}")).${property}`);
    expect(await styleOf(".bar-lost", "backgroundImage")).toContain("repeating-linear-gradient");
    const failed = row(page, "failed with UNAVAILABLE");
    expect(await textOf(failed.locator(".bar-label"))).toBe("26 ms ✕ UNAVAILABLE");
    expect(await styleOf(".bar-wait", "borderTopStyle")).toBe("dashed");
    expect(await tree(page).locator(".mark-retry").getAttribute("title")).toBe(
      "48 ms: retry retries: UNAVAILABLE, 64 ms (retry after UNAVAILABLE (transport))",
    );
    expect(await tree(page).locator(".mark-hedge").count()).toBe(1);
    expect(await tree(page).locator(".mark-reject.mark-observed").count()).toBe(1);
  });

  it("shows attributes and events of a span on a click", async () => {
    const page = await openTrace("incident");
    await row(page, "Attempt 2 (retry)").click();
    await details(page).waitFor();
    expect(await textOf(details(page))).toContain("weir.attempt.after UNAVAILABLE");
    await row(page, "shop.v1.Checkout/Place").nth(1).click();
    const events = details(page).locator(".events");
    await events.getByText("admission lets it wait, 88 ms (3rd of 12 in the queue)").waitFor();
    await page.keyboard.press("Escape");
    await details(page).waitFor({ state: "detached" });
    expect(await rows(page).count()).toBe(19);
  });

  it("is walked, folded and opened by the keyboard alone", async () => {
    const page = await openTrace("incident");
    await tree(page).focus();
    const active = page.locator('.span-rows [aria-selected="true"]');
    const labels = () => active.locator(".span-label").innerText();
    await page.keyboard.press("ArrowDown");
    expect(await labels()).toBe("shop.v1.Checkout/Place");
    expect(await active.getAttribute("aria-expanded")).toBe("true");
    await page.keyboard.press("ArrowLeft");
    await expect.poll(() => rows(page).count()).toBe(1);
    expect(await active.getAttribute("aria-expanded")).toBe("false");
    await page.keyboard.press("ArrowRight");
    await expect.poll(() => rows(page).count()).toBe(19);
    for (let down = 0; down < 4; down += 1) await page.keyboard.press("j");
    expect(await labels()).toBe("Attempt 2 (retry)");
    await page.keyboard.press("w");
    // All attempts are folded, also those below.
    await expect.poll(() => rows(page).count()).toBe(5);
    await page.keyboard.press("e");
    await page.keyboard.press("End");
    await expect.poll(labels).toBe("INSERT orders");
    await page.keyboard.press("ArrowLeft");
    await expect.poll(labels).toBe("shop.v1.Checkout/Place");
    expect(await active.getAttribute("aria-level")).toBe("3");
    await page.keyboard.press("Enter");
    await details(page).waitFor();
    expect(new URL(page.url()).hash).toContain("?span=");
    expect(await page.locator("[role=treegrid]:focus").count()).toBe(1);
  });

  it("keeps the chosen span in the address", async () => {
    const index = numberOf("incident");
    scene.viewer.addTrace(sceneSpans(index));
    const page = await scene.open(`#/trace/${traceIdOf(index)}?span=000000000000000a`);
    const active = page.locator('.span-rows [aria-selected="true"]');
    await active.waitFor();
    expect(await active.getAttribute("data-span")).toBe("000000000000000a");
  });

  it("is a table of text on demand", async () => {
    const page = await openTrace("incident");
    await page.keyboard.press("t");
    const table = page.getByRole("table");
    await table.waitFor();
    expect(await table.getByRole("row").count()).toBe(20);
    const first = table.getByRole("row").filter({ hasText: "Attempt 1" }).first();
    expect(await textOf(first)).toBe("Attempt 1 web 22 ms 26 ms ✕ UNAVAILABLE");
  });

  it("gives its id to the clipboard", async () => {
    const page = await openTrace("served", {
      permissions: ["clipboard-read", "clipboard-write"],
    });
    await page.keyboard.press("c");
    await page.getByRole("button", { name: "Copied" }).waitFor();
    const copied: string = await page.evaluate("navigator.clipboard.readText()");
    expect(copied).toBe(traceIdOf(numberOf("served")));
  });

  it("may have two thousand spans: few of them are drawn", async () => {
    const traceId = "b".repeat(32);
    scene.viewer.addTrace(largeTrace(traceId, 2_000));
    const page = await scene.open(`#/trace/${traceId}`);
    await rows(page).first().waitFor();
    await tree(page).focus();
    await page.keyboard.press("End");
    await page.locator('[aria-rowindex="2001"]').waitFor();
    expect(await rows(page).count()).toBeLessThan(60);
    expect(await tree(page).getAttribute("aria-rowcount")).toBe("2001");
  });

  it("is loaded again when more of it arrives", async () => {
    const [call, ...others] = sceneSpans(numberOf("served"));
    if (call === undefined) throw new Error("the scene has no spans");
    scene.viewer.addTrace([call]);
    const page = await scene.open(`#/trace/${call.traceId}`);
    await rows(page).first().waitFor();
    expect(await rows(page).count()).toBe(1);
    await expect.poll(() => scene.viewer.listeners).toBe(1);
    scene.viewer.addTrace([call, ...others]);
    scene.viewer.sendCalls(1);
    await expect.poll(() => rows(page).count()).toBe(4);
  });

  it("that is not there is explained, and can be asked for again", async () => {
    const index = numberOf("served");
    const page = await scene.open(`#/trace/${traceIdOf(index)}`);
    await page.getByRole("heading", { name: "This trace is not here" }).waitFor();
    scene.viewer.addTrace(sceneSpans(index));
    await page.getByRole("button", { name: "Try again" }).click();
    await tree(page).waitFor();
    expect(await rows(page).count()).toBe(4);
    // The browser itself reports the 404.
    scene.problems = scene.problems.filter((text) => !text.includes("404"));
  });
});
