import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const docs = fileURLToPath(new URL("../../docs/", import.meta.url));

/** What keeps a picture from being read by everybody, in both themes, wherever the page is shown. */
function problemsOf(svg: string): string[] {
  const [light = "", dark] = svg.split("@media (prefers-color-scheme: dark)");
  const colourOfText = (styles: string) => /text \{[^}]*fill: (#[0-9a-f]{3,6})/.exec(styles)?.[1];
  const texts = [colourOfText(light), colourOfText(dark ?? "")];
  return [
    ...(/<title id="title">[^<]+<\/title>/.test(svg) ? [] : ["no title"]),
    ...(/<desc id="desc">[^<]+<\/desc>/.test(svg) ? [] : ["no description"]),
    ...(svg.includes('aria-labelledby="title desc"') ? [] : ["its title names nothing"]),
    ...(dark === undefined ? ["one theme only"] : []),
    ...(texts.includes(undefined) || texts[0] === texts[1]
      ? ["text of one colour in both themes"]
      : []),
    ...(/(?:href|src)=|url\(|@import|<script|<image|<foreignObject/.test(svg)
      ? ["leads outside"]
      : []),
    ...(/ style="| fill="(?:white|black|#000|#fff)"/.test(svg) ? ["a colour for one theme"] : []),
    ...(opensAndCloses(svg) ? [] : ["not well-formed"]),
  ];
}

/** Each element is closed by itself or by its own end tag. */
function opensAndCloses(svg: string): boolean {
  const open: string[] = [];
  for (const [, end, name = "", self] of svg.matchAll(/<(\/?)([a-z]+)[^<>]*?(\/?)>/gi)) {
    if (end === "/") {
      if (open.pop() !== name) return false;
    } else if (self !== "/") open.push(name);
  }
  return open.length === 0 && !/&(?!amp;|lt;|gt;|#)/.test(svg);
}

const pictures = readdirSync(docs, { recursive: true, encoding: "utf8" })
  .map((name) => name.replaceAll("\\", "/"))
  .filter((name) => name.endsWith(".svg"));

it.each(pictures)(
  "docs/%s has a title and a description, and can be read in both themes",
  (name) => {
    expect(problemsOf(readFileSync(join(docs, name), "utf8"))).toEqual([]);
  },
);

it.each(pictures.filter((name) => name.startsWith("diagrams/")))(
  "%s is shown on a page",
  (name) => {
    const pages = readdirSync(docs).filter((page) => page.endsWith(".md"));
    const showing = pages.filter((page) =>
      readFileSync(join(docs, page), "utf8").includes(`](${name})`),
    );
    expect(showing).not.toEqual([]);
  },
);

describe("a picture", () => {
  const good = [
    '<svg aria-labelledby="title desc"><title id="title">T</title><desc id="desc">D</desc><style>',
    "text { fill: #24292f }",
    "@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } }",
    '</style><rect class="box"/><text>x</text></svg>',
  ].join("\n");

  it("is good without any of these", () => {
    expect(problemsOf(good)).toEqual([]);
  });

  it.each([
    ["no title", /<title.*<\/title>/, ""],
    ["no description", /<desc.*<\/desc>/, ""],
    ["its title names nothing", ' aria-labelledby="title desc"', ""],
    ["one theme only", "@media (prefers-color-scheme: dark)", "@media print"],
    ["text of one colour in both themes", "#f0f6fc", "#24292f"],
    ["leads outside", "<rect", '<image href="https://example.com/a.png"/><rect'],
    ["leads outside", "fill: #24292f", "fill: #24292f; font: url(https://example.com/a.woff)"],
    ["a colour for one theme", "<rect", '<rect fill="black"'],
    ["not well-formed", "</text>", ""],
    ["not well-formed", "x</text>", "a & b</text>"],
  ])("is reported for: %s", (problem, part, by) => {
    expect(problemsOf(good.replace(part, by))).toContain(problem);
  });
});
