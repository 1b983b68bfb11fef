import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { inBrowser } from "../viewer/page-scene.js";

const root = fileURLToPath(new URL("../../../", import.meta.url));

const patience = { timeout: 8_000 };

let folder: string;
let report: string;
let stdout: string;
// The program as it was built, in a process of its own, with the example of the documents.
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "weir-report-"));
  report = join(folder, "report.html");
  const args = ["simulate", "checkout.json", "--compare", "fixed.json", "--html", report];
  const program = `${root}dist/cli/main.js`;
  const run = await promisify(execFile)(process.execPath, [program, ...args], {
    cwd: `${root}examples/simulate`,
    timeout: 110_000,
  });
  ({ stdout } = run);
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

it("the built program simulates the example, and says what the policies change", () => {
  expect(stdout).toMatch(/^during +ours /m);
  expect(stdout).toMatch(/^Against ours, fixed /m);
});

inBrowser("the report of a simulation", (scene) => {
  const open = (options = {}) => scene.open("", options, `${pathToFileURL(report).href}?`);

  it("opens from a file, asks nobody, and has no errors", async () => {
    const page = await open();
    const { version } = JSON.parse(await readFile(`${root}package.json`, "utf8"));
    await page.getByText(`Made by grpc-weir ${version}`).waitFor();
    expect(await page.getByRole("heading", { level: 1 }).innerText()).toBe("checkout");
    expect(await page.getByRole("img", { name: /, ours$/ }).count()).toBeGreaterThanOrEqual(4);
    expect(await page.getByRole("row").count()).toBe(1 + 2 * 3);
  });

  it("shows the values of all plots at the moment that is pointed at", async () => {
    const page = await open();
    const values = page.locator(".legend b");
    const filled = async () => (await values.allInnerTexts()).filter((text) => text !== "").length;
    expect(await filled()).toBe(0);
    await page
      .locator("figure .plot")
      .first()
      .hover({ position: { x: 100, y: 50 } });
    await expect.poll(filled, patience).toBe(await values.count());
    await page.locator("h1").hover();
    await expect.poll(filled, patience).toBe(0);
  });

  it.each(["light", "dark"] as const)("fits into a narrow window, in %s", async (colorScheme) => {
    const page = await open({ colorScheme, viewport: { width: 420, height: 800 } });
    await page.locator("figure").last().waitFor();
    const width = await page.evaluate("document.documentElement.scrollWidth");
    expect(width).toBeLessThanOrEqual(420);
  });
});
