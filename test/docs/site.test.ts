import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { find, siteOf, slugOf } from "../../scripts/site.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const { files, pictures, search } = siteOf(root);
const pages = [...files].filter(([path]) => path.endsWith(".html"));

const attributes = (html: string, name: string) =>
  [...html.matchAll(new RegExp(`\\s${name}="([^"]*)"`, "g"))].map(([, value = ""]) => value);

const ids = new Map([...files].map(([path, html]) => [path, new Set(attributes(html, "id"))]));

describe.each(pages)("%s of the site", (path, html) => {
  it("links to pages, sections and pictures that are there, and loads nothing from elsewhere", () => {
    const loaded = attributes(html, "src").concat(
      [...html.matchAll(/<link[^>]* href="([^"]*)"/g)].map(([, href = ""]) => href),
    );
    const dead = [...attributes(html, "href"), ...attributes(html, "src")].filter((link) => {
      if (/^https?:/.test(link)) return loaded.includes(link);
      const [target = "", id] = link.split("#");
      const file = target === "" ? path : posix.normalize(posix.join(posix.dirname(path), target));
      if (pictures.includes(file)) return false;
      const there = ids.get(file);
      return there === undefined || (id !== undefined && !there.has(id));
    });
    expect(dead).toEqual([]);
  });

  it("has a title, and is where the search says", () => {
    expect(html).toMatch(/<title>.+ · grpc-weir<\/title>/);
    const known = search.find(({ url }) => url === path);
    expect(
      known?.sections.map(({ id }) => id).filter((id) => id !== "" && !ids.get(path)?.has(id)),
    ).toEqual([]);
  });
});

describe("the search", () => {
  it.each([
    ["noisy tenant", /^noisy-tenant\.html/],
    ["retry budget", /^retries\.html#budgets/],
    ["CIRCUIT breaker", /^breaker\.html/],
    ["LOAD_SHED", /\.html/],
  ])("finds %j", (query, url) => {
    expect(
      find(search, query)
        .slice(0, 5)
        .map((hit) => hit.url),
    ).toContainEqual(expect.stringMatching(url));
  });

  const page = (title: string, text: string) => ({
    url: `${title}.html`,
    title,
    sections: [{ id: "", heading: "", text }],
  });

  it("wants all words, and puts titles first", () => {
    const some = [page("other", "queue and limit"), page("queue", "a limit"), page("x", "queue")];
    expect(find(some, "queue limit").map(({ url }) => url)).toEqual(["queue.html", "other.html"]);
    expect(find(some, "queue missing")).toEqual([]);
    expect(find(some, "  ")).toEqual([]);
  });

  it("runs in a browser, where it stands by itself", () => {
    const [alone = ""] = (files.get("search.js") ?? "").split("const field");
    const asked = JSON.stringify([page("queue", "a limit")]);
    expect(runInNewContext(`${alone}; find(${asked}, "limit").length`)).toBe(1);
  });
});

it("names headings as GitHub does", () => {
  expect(slugOf("Why: a `b`?")).toBe("why-a-b");
  expect(slugOf("[Rates](rate.md), z_1")).toBe("rates-z_1");
});
