import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const { VIEWER_URL = "http://127.0.0.1:4319" } = process.env;

/** The page of the viewer. Everything is a file of its own, because the page is served with a strict CSP. */
export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  // Vite's own server is for work on the page: the data comes from a viewer that runs.
  server: { proxy: { "/api": VIEWER_URL } },
  build: {
    outDir: "../dist/viewer-page",
    emptyOutDir: true,
    target: ["chrome123", "firefox128", "safari17.5"],
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
