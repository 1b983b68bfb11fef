// Takes the pictures of the viewer's page for the documents, of made-up data, so that they can be taken again at any time.
// It needs the build and a Chromium; `CHROMIUM` names another one than Debian's.
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { runnerImport } from "vite";

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = join(root, "docs", "pictures");

/** Pictures are loaded with the documents. */
const maxBytes = 200_000;

/** Modules of the tests are TypeScript, which not every Node reads by itself. */
async function load(path) {
  const { module } = await runnerImport(join(root, path), { root, configFile: false });
  return module;
}

const { PageFixture } = await load("test/deep/viewer/page-fixture.ts");
const { boardPoints, demoState, traceIdOf } = await load("test/deep/viewer/page-scenes.ts");

/** The number of the scene in which the most happens. */
const incident = 7;

const pictures = [
  {
    name: "viewer-trace",
    hash: `#/trace/${traceIdOf(incident)}?span=0000000000000009`,
    colorScheme: "light",
    show: async (page) => {
      await page.getByRole("treegrid").press("Enter");
      await page.getByRole("complementary").waitFor();
    },
  },
  {
    name: "viewer-calls",
    hash: "#/calls",
    colorScheme: "light",
    show: (page) => page.locator(".call-rows a").first().waitFor(),
  },
  {
    name: "viewer-board",
    hash: "#/board",
    colorScheme: "dark",
    show: (page) => page.locator("canvas").nth(3).waitFor(),
  },
  {
    name: "viewer-compare",
    hash: "#/compare",
    colorScheme: "light",
    show: (page) => page.locator("canvas").nth(2).waitFor(),
  },
];

const viewer = new PageFixture();
viewer.add(200);
viewer.board = boardPoints();
viewer.demo = demoState();
await viewer.listen();
await mkdir(folder, { recursive: true });
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
for (const { name, hash, colorScheme, show } of pictures) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 720 },
    deviceScaleFactor: 1.5,
    timezoneId: "UTC",
    reducedMotion: "reduce",
    colorScheme,
  });
  const page = await context.newPage();
  await page.goto(`${viewer.url}/${hash}`);
  await show(page);
  // The ring of the focus is of no use in a picture.
  await page.evaluate("document.activeElement.blur()");
  const path = join(folder, `${name}.webp`);
  await page.screenshot({ path, type: "webp", quality: 90 });
  const { size } = await stat(path);
  console.log(`${name}.webp ${Math.round(size / 1_000)} kB`);
  if (size > maxBytes) process.exitCode = 1;
  await context.close();
}
await browser.close();
await viewer.close();
