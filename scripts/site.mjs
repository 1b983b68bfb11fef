// Builds docs/ into build/site: pages that can be read, and searched, without a network. `npm run site`.
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { Marked } from "marked";

/** The id of a heading, by the rule of GitHub, so that links hold there and here. */
export function slugOf(heading) {
  return heading
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replaceAll(" ", "-");
}

const escaped = (text) =>
  text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");

/** Where a link of a page leads on the site. What lies outside of docs/ is in the repository. */
function siteLink(page, link, repository) {
  if (/^[a-z]+:|^#/.test(link)) return link;
  const [path = "", anchor] = link.split("#");
  const target = posix.normalize(posix.join("docs", posix.dirname(page), path));
  const hash = anchor === undefined ? "" : `#${anchor}`;
  if (!target.startsWith("docs/")) return `${repository}/blob/main/${target}${hash}`;
  const onSite = target
    .slice("docs/".length)
    .replace(/\.md$/, ".html")
    .replace(/README\.html$/, "index.html");
  const file = onSite.endsWith("/") ? `${onSite}index.html` : onSite;
  return posix.relative(posix.dirname(page), file) + hash;
}

/** A page as HTML, and what the search knows of it. */
function rendered(page, markdown, repository) {
  const used = new Map();
  const sections = [{ id: "", heading: "", text: "" }];
  const marked = new Marked({
    renderer: {
      heading(html, depth, raw) {
        const slug = slugOf(raw);
        const count = used.get(slug) ?? 0;
        used.set(slug, count + 1);
        const id = count === 0 ? slug : `${slug}-${count}`;
        sections.push({ id, heading: raw.replace(/[`*]/g, ""), text: "" });
        return `<h${depth} id="${id}">${html} <a class="anchor" href="#${id}" aria-label="Link to this section">#</a></h${depth}>\n`;
      },
      link: (href, _title, html) =>
        `<a href="${escaped(siteLink(page, href, repository))}">${html}</a>`,
      image: (href, _title, text) =>
        `<img src="${escaped(siteLink(page, href, repository))}" alt="${escaped(text)}" loading="lazy">`,
    },
  });
  const body = marked.parse(markdown.replace(/^<!--.*-->\n/gm, ""));
  // What a section says, for the search: all but marks, from one heading to the next.
  const parts = markdown.split(/^#{1,6} .*$/m);
  for (const [index, part] of parts.entries()) {
    const section = sections[index];
    if (section !== undefined)
      section.text = part
        .replace(/<!--.*-->|\]\([^)]*\)|-{3,}|[`*|#>[]/g, " ")
        .replace(/\s+/g, " ");
  }
  const title = /^# (.+)$/m.exec(markdown)?.[1]?.replace(/[`*]/g, "") ?? page;
  return { title, body, sections };
}

/**
 * The sections that answer a query, best first: all of its words have to occur, and a word in a title or heading counts for more.
 * Runs in the browser, too, and so stands by itself.
 */
export function find(pages, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [];
  const hits = [];
  for (const { url, title, sections } of pages) {
    for (const { id, heading, text } of sections) {
      const places = [
        [title.toLowerCase(), 8],
        [heading.toLowerCase(), 6],
        [text.toLowerCase(), 1],
      ];
      let score = 0;
      const all = words.every((word) => {
        const found = places.reduce((sum, [place, weight]) => {
          const count = Math.min(place.split(word).length - 1, 5);
          return sum + count * weight;
        }, 0);
        score += found;
        return found > 0;
      });
      if (!all) continue;
      // Who searches has a task, and seldom asks why it was decided so.
      if (url.startsWith("adr/")) score *= 0.4;
      const at = Math.max(0, text.toLowerCase().indexOf(words[0]) - 40);
      hits.push({
        url: id === "" ? url : `${url}#${id}`,
        title,
        heading,
        excerpt: text.slice(at, at + 160),
        score,
      });
    }
  }
  return hits.sort((a, b) => b.score - a.score).slice(0, 20);
}

const style = `
:root { color-scheme: light dark; --text: #24292f; --soft: #57606a; --back: #fff; --box: #f6f8fa; --line: #d0d7de; --link: #0969da }
@media (prefers-color-scheme: dark) { :root { --text: #f0f6fc; --soft: #9198a1; --back: #0d1117; --box: #161b22; --line: #30363d; --link: #58a6ff } }
* { box-sizing: border-box } body { margin: 0; font: 16px/1.55 system-ui, sans-serif; color: var(--text); background: var(--back) }
a { color: var(--link) } nav a, .anchor { text-decoration: none } .anchor { opacity: 0 } :is(h1, h2, h3, h4):hover .anchor { opacity: 1 }
.page { display: grid; grid-template-columns: 280px minmax(0, 1fr); max-width: 1280px; margin: auto }
nav { padding: 16px; border-right: 1px solid var(--line); font-size: 14px; height: 100vh; overflow: auto; position: sticky; top: 0 }
nav h2 { font-size: 12px; text-transform: uppercase; color: var(--soft); margin: 18px 0 4px } nav ul { list-style: none; margin: 0; padding: 0 }
nav li { padding: 2px 0 } nav [aria-current] { font-weight: bold; color: var(--text) }
main { padding: 8px 32px 64px; min-width: 0 } main img { max-width: 100%; background: var(--back) }
pre { background: var(--box); padding: 12px; overflow: auto; border-radius: 6px; line-height: 1.4 } code { font: 0.88em ui-monospace, monospace }
:not(pre) > code { background: var(--box); padding: 1px 4px; border-radius: 4px }
table { border-collapse: collapse; display: block; overflow: auto } th, td { border: 1px solid var(--line); padding: 5px 10px; text-align: left; vertical-align: top }
input { width: 100%; padding: 7px; border: 1px solid var(--line); border-radius: 6px; background: var(--box); color: var(--text); font: inherit }
#found { list-style: none; padding: 0; margin: 0 } #found li { padding: 6px 0; border-bottom: 1px solid var(--line) } #found small { color: var(--soft); display: block }
@media (max-width: 800px) { .page { display: block } nav { position: static; height: auto; border: 0 } main { padding: 8px 16px } }
`;

const script = `
${find.toString()}
const field = document.querySelector("#search"), found = document.querySelector("#found");
const root = document.documentElement.dataset.root;
field.addEventListener("input", () => {
  found.replaceChildren(...find(searchPages, field.value).map(({ url, title, heading, excerpt }) => {
    const item = document.createElement("li"), link = document.createElement("a"), text = document.createElement("small");
    link.href = root + url;
    link.textContent = heading === "" || heading === title ? title : title + ": " + heading;
    text.textContent = excerpt;
    item.append(link, text);
    return item;
  }));
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== field) { event.preventDefault(); field.focus(); }
});
`;

/** The index, as it is in docs/README.md: headings and the pages below them. */
function navigation(index) {
  const groups = [];
  for (const line of index.split("\n")) {
    const heading = /^## (.+)$/.exec(line)?.[1];
    const [, title, page] = /^- \[([^\]]+)\]\(([^)]+)\)/.exec(line) ?? [];
    if (heading !== undefined) groups.push({ heading, links: [] });
    else if (title !== undefined) groups.at(-1)?.links.push({ title, page });
  }
  return groups;
}

function htmlOf(page, { title, body }, groups, repository) {
  const up = "../".repeat(page.split("/").length - 1);
  const menu = groups
    .map(({ heading, links }) => {
      const items = links.map(({ title: text, page: target }) => {
        const href = up + siteLink("README.md", target, repository);
        const current = target === page ? ' aria-current="page"' : "";
        return `<li><a href="${escaped(href)}"${current}>${escaped(text)}</a></li>`;
      });
      return `<h2>${escaped(heading)}</h2><ul>${items.join("")}</ul>`;
    })
    .join("\n");
  return `<!doctype html>
<html lang="en" data-root="${up}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(title)} · grpc-weir</title>
<link rel="stylesheet" href="${up}site.css"></head>
<body><div class="page">
<nav aria-label="Pages"><p><a href="${up}index.html"><b>grpc-weir</b></a></p>
<input id="search" type="search" placeholder="Search (/)" aria-label="Search"><ul id="found" aria-live="polite"></ul>
${menu}</nav>
<main>${body}</main></div>
<script src="${up}search.js" defer></script></body></html>
`;
}

/** All files of the site that are made, by path. Pictures are copied as they are. */
export function siteOf(root) {
  const docs = join(root, "docs");
  const { homepage } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const repository = homepage.replace(/#.*$/, "");
  const names = readdirSync(docs, { recursive: true }).map((name) =>
    String(name).replaceAll("\\", "/"),
  );
  const texts = new Map(
    names
      .filter((name) => name.endsWith(".md"))
      .sort()
      .map((name) => [name, readFileSync(join(docs, name), "utf8").replaceAll("\r\n", "\n")]),
  );
  const decisions = [...texts].filter(([name]) => /^adr\/(?!0000)/.test(name));
  const list = decisions.map(
    ([name, text]) => `- [${/^# (.+)$/m.exec(text)?.[1]}](${posix.basename(name)})`,
  );
  texts.set("adr/README.md", `# The decisions behind the design\n\n${list.join("\n")}\n`);

  const groups = navigation(texts.get("README.md") ?? "");
  const files = new Map();
  const search = [];
  for (const [name, text] of texts) {
    const page = rendered(name, text, repository);
    const url = name.replace(/\.md$/, ".html").replace(/README\.html$/, "index.html");
    files.set(url, htmlOf(name, page, groups, repository));
    search.push({ url, title: page.title, sections: page.sections });
  }
  files.set("site.css", style);
  files.set("search.js", `const searchPages = ${JSON.stringify(search)};\n${script}`);
  const pictures = names.filter((name) => /\.(svg|webp|png)$/.test(name));
  return { files, pictures, search };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const { files, pictures } = siteOf(root);
  const site = join(root, "build", "site");
  if (existsSync(site)) rmSync(site, { recursive: true });
  for (const [path, content] of files) {
    mkdirSync(dirname(join(site, path)), { recursive: true });
    writeFileSync(join(site, path), content);
  }
  for (const path of pictures)
    cpSync(join(root, "docs", path), join(site, path), { recursive: true });
  console.log(`build/site/index.html: ${files.size} files`);
}
