import type { Page } from "playwright-core";
import { expect, it } from "vitest";
import { inBrowser, textsOf } from "./page-scene.js";
import { sceneName, traceIdOf } from "./page-scenes.js";

const rowsOf = (page: Page) => page.locator(".call-rows [role=row]");
const grid = (page: Page) => page.getByRole("grid", { name: "Calls, newest first" });
const facet = (page: Page, name: string) => page.getByRole("combobox", { name });
const countOf = (page: Page) => page.locator(".calls-bar > span").first();

inBrowser("the calls", (scene) => {
  it("are listed, the newest first, with status, reason, attempts and duration", async () => {
    scene.viewer.add(8);
    const page = await scene.open("");
    await rowsOf(page).first().waitFor();
    expect(await textsOf(rowsOf(page))).toEqual([
      "10:00:00.281 ✓ OK shop.v1.Checkout/Place from web critical 2 retry 486 ms",
      "10:00:00.241 ✓ OK shop.v1.Checkout/Place from web normal 1 42 ms",
      "10:00:00.201 ⊘ RESOURCE_EXHAUSTED shop.v1.Checkout/Place from web low 1 LOAD_SHED 6 ms",
      "10:00:00.161 ✓ OK pricing.v1.Prices/Quote from web high 2 hedge 96 ms",
      "10:00:00.120 ✓ OK shop.v1.Checkout/Place from web normal 1 42 ms",
      "10:00:00.080 ✓ OK shop.v1.Checkout/Place from web critical 2 retry 124 ms",
      "10:00:00.040 ✓ OK shop.v1.Checkout/Place from web normal 1 42 ms",
      "10:00:00.000 ✓ OK shop.v1.Checkout/Place from web normal 1 42 ms",
    ]);
    expect(await page.title()).toBe("Calls · grpc-weir");
  });

  it("can be filtered by each of their properties, and the filter is in the address", async () => {
    scene.viewer.add(120);
    const page = await scene.open("#/calls");
    await rowsOf(page).first().waitFor();
    for (const [name, value, query, calls] of [
      ["Method", "pricing.v1.Prices/Quote", "method=pricing.v1.Prices%2FQuote", 20],
      ["Status", "DEADLINE_EXCEEDED", "status=DEADLINE_EXCEEDED", 10],
      ["Priority", "critical", "priority=critical", 20],
      ["Policy", "breaker", "policy=breaker", 10],
      ["Reason", "LOAD_SHED", "reason=LOAD_SHED", 10],
      ["Service", "orders", "service=orders", 10],
    ] as const) {
      await facet(page, name).selectOption(value);
      await page.waitForURL(`**/#/calls?${query}`);
      await countOf(page).getByText(`${calls} of 120 calls`).waitFor();
      expect(await rowsOf(page).count()).toBe(calls);
      await page.getByRole("button", { name: "Clear filter" }).click();
      await page.waitForURL("**/#/calls");
    }
    await page.getByRole("spinbutton").fill("480");
    await page.waitForURL("**/#/calls?minMs=480");
    await countOf(page).getByText("20 of 120 calls").waitFor();
    await page.getByRole("searchbox").fill("prices");
    await page.waitForURL("**/#/calls?q=prices&minMs=480");
    await countOf(page).getByText("10 of 120 calls").waitFor();
    expect(await rowsOf(page).count()).toBe(10);
  });

  it("keep the filter of the address, when the page is loaded and when calls come", async () => {
    scene.viewer.add(24);
    const page = await scene.open("#/calls?reason=BREAKER_OPEN");
    await countOf(page).getByText("2 of 24 calls").waitFor();
    expect(await facet(page, "Reason").inputValue()).toBe("BREAKER_OPEN");
    // What can be chosen does not depend on what is chosen.
    expect(await facet(page, "Reason").innerText()).toContain("LOAD_SHED");
    scene.viewer.sendCalls(12);
    await countOf(page).getByText("3 of 36 calls").waitFor();
    expect(await rowsOf(page).count()).toBe(3);
    const text = await rowsOf(page).first().innerText();
    expect(text).toContain("BREAKER_OPEN");
  });

  it("come live on top, are held by a pause, and shown after it", async () => {
    scene.viewer.add(2);
    const page = await scene.open("#/calls");
    await expect.poll(() => scene.viewer.listeners).toBe(1);
    await rowsOf(page).nth(1).waitFor();
    scene.viewer.sendCalls(1);
    await rowsOf(page).nth(2).waitFor();
    await page.keyboard.press("p");
    await page.getByRole("button", { name: "Resume" }).waitFor();
    scene.viewer.sendCalls(4);
    await page.getByRole("button", { name: "Show 4 new calls" }).waitFor();
    expect(await rowsOf(page).count()).toBe(3);
    await page.getByRole("button", { name: "Show 4 new calls" }).click();
    await rowsOf(page).nth(6).waitFor();
    expect(await page.getByRole("button", { name: "Pause" }).getAttribute("aria-pressed")).toBe(
      "false",
    );
  });

  it("stand still while the reader has scrolled, and move on at the top", async () => {
    scene.viewer.add(200);
    const page = await scene.open("#/calls");
    await rowsOf(page).first().waitFor();
    await grid(page).hover();
    await page.mouse.wheel(0, 600);
    await page.getByRole("button", { name: "Resume" }).waitFor();
    const before = await textsOf(rowsOf(page));
    scene.viewer.sendCalls(20);
    await page.getByRole("button", { name: "Show 20 new calls" }).waitFor();
    expect(await textsOf(rowsOf(page))).toEqual(before);
    await page.mouse.wheel(0, -2_000);
    await page.getByRole("button", { name: "Pause" }).waitFor();
    await countOf(page).getByText("220 calls").waitFor();
  });

  it("are asked for again when the server skipped some", async () => {
    scene.viewer.add(3);
    const page = await scene.open("#/calls");
    await rowsOf(page).nth(2).waitFor();
    await expect.poll(() => scene.viewer.listeners).toBe(1);
    scene.viewer.skipCalls(4);
    await rowsOf(page).nth(6).waitFor();
    expect(await countOf(page).innerText()).toBe("7 calls");
  });

  it("may be ten thousand: few of them are drawn, and the oldest can be reached", async () => {
    scene.viewer.add(10_000);
    const page = await scene.open("#/calls");
    await rowsOf(page).first().waitFor();
    await grid(page).focus();
    const lastRow = page.locator('[aria-rowindex="10001"]');
    // Each time the end is reached, older calls are loaded.
    await expect
      .poll(
        async () => {
          await page.keyboard.press("End");
          return lastRow.count();
        },
        { timeout: 15_000, interval: 50 },
      )
      .toBe(1);
    expect(await rowsOf(page).count()).toBeLessThan(60);
    expect(await lastRow.innerText()).toContain("10:00:00.000");
    expect(await lastRow.getAttribute("aria-selected")).toBe("true");
    // While new calls come four times a second, a frame must stay a frame.
    await page.keyboard.press("Home");
    const longestMs: number = await page.evaluate(`new Promise((resolve) => {
      let last = performance.now(), longest = 0, frames = 0;
      const frame = (now) => {
        longest = Math.max(longest, now - last);
        last = now;
        document.querySelector('[role=grid]').scrollTop += 400;
        if (++frames < 40) requestAnimationFrame(frame); else resolve(longest);
      };
      requestAnimationFrame(frame);
    })`);
    expect(longestMs).toBeLessThan(500);
  });

  it("open their trace by the keyboard alone, and the way back leads to the same call", async () => {
    scene.viewer.add(30);
    const page = await scene.open("#/calls");
    await rowsOf(page).first().waitFor();
    for (let tabs = 0; tabs < 30; tabs += 1) {
      await page.keyboard.press("Tab");
      if ((await page.locator("[role=grid]:focus").count()) === 1) break;
    }
    for (let row = 0; row < 4; row += 1) await page.keyboard.press("ArrowDown");
    // Spans have rows, too, which may be there for a moment after the address is that of the calls.
    const chosen = page.locator('.call-rows [aria-selected="true"]');
    const index = 30 - 4;
    expect(await chosen.getAttribute("aria-rowindex")).toBe("5");
    expect(await grid(page).getAttribute("aria-activedescendant")).toBe("call-3");
    await page.keyboard.press("Enter");
    await page.waitForURL(`**/#/trace/${traceIdOf(index)}?span=*`);
    await page.getByRole("treegrid").waitFor();
    expect(sceneName(index)).toBe("retried");
    expect(await page.getByRole("listitem").first().innerText()).toBe("OK in 124 ms");
    await page.keyboard.press("Escape");
    await page.waitForURL("**/#/calls");
    await chosen.waitFor();
    expect(await chosen.getAttribute("aria-rowindex")).toBe("5");
    const focused = page.locator("[role=grid]:focus");
    await focused.waitFor();
    expect(await focused.count()).toBe(1);
  });

  it("are searched after a slash, and a shortcut in a field is a letter", async () => {
    scene.viewer.add(12);
    const page = await scene.open("#/calls");
    await rowsOf(page).first().waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("pd2");
    expect(await page.getByRole("searchbox").inputValue()).toBe("pd2");
    await page.getByText("No call fits the filter.").waitFor();
    expect(new URL(page.url()).hash).toBe("#/calls?q=pd2");
    await page.getByRole("button", { name: "Clear filter" }).last().click();
    await rowsOf(page).nth(11).waitFor();
  });

  it("that are not there yet are explained", async () => {
    const page = await scene.open("#/calls");
    await page.getByText("No calls yet.").waitFor();
    expect(await page.locator(".empty").innerText()).toContain("OTEL_EXPORTER_OTLP_ENDPOINT");
    await expect.poll(() => scene.viewer.listeners).toBe(1);
    scene.viewer.sendCalls(1);
    await rowsOf(page).first().waitFor();
    expect(await page.locator(".empty").count()).toBe(0);
  });

  it("stay when the viewer goes away, and are made up for when it is back", async () => {
    scene.viewer.add(3);
    const page = await scene.open("#/calls");
    await rowsOf(page).nth(2).waitFor();
    await expect.poll(() => scene.viewer.listeners).toBe(1);
    await scene.viewer.close();
    await page.getByRole("alert").getByText("The viewer does not answer.").waitFor();
    await page.getByText("Not connected").waitFor();
    expect(await rowsOf(page).count()).toBe(3);
    scene.viewer.add(2);
    await scene.viewer.listen();
    await rowsOf(page).nth(4).waitFor();
    await page.locator(".connection-live").waitFor();
    expect(await page.getByRole("alert").count()).toBe(0);
    // The browser itself reports that it could not connect.
    scene.problems = scene.problems.filter((text) => !/ERR_CONNECTION_REFUSED|ERR_/.test(text));
  });
});
