import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { decisionReasons, refusalReasons } from "../../src/core/decision.js";
import { pathOf, rules, textOf } from "../ops/kit.js";

const page = textOf("docs/runbook.md");

/** The sections below a heading, in their order. */
function sectionsBelow(
  heading: string,
): readonly { readonly title: string; readonly text: string }[] {
  const [, below = ""] = page.split(`\n## ${heading}\n`);
  const [part = ""] = below.split(/\n## /);
  return part
    .split("\n### ")
    .slice(1)
    .map((section) => {
      const [title = "", ...lines] = section.split("\n");
      return { title, text: lines.join("\n") };
    });
}

const alerts = sectionsBelow("Alerts");
const refusals = sectionsBelow("Refusals");
const decisions = sectionsBelow("Decisions");
const titles = (sections: readonly { readonly title: string }[]) =>
  sections.map(({ title }) => title);

describe("docs/runbook.md", () => {
  it("has a section for every alert, and none for others", () => {
    expect(titles(alerts).sort()).toEqual(rules.map(({ alert }) => alert).sort());
  });

  it("has a section for every reason, in the order of the code", () => {
    expect(titles(refusals)).toEqual(refusalReasons);
    expect(titles(decisions)).toEqual(decisionReasons);
  });

  it.each(alerts)("says what $title means", ({ text }) => {
    expect(text).toMatch(/^- \*\*Means\.\*\* \S/m);
  });

  it.each([...alerts, ...refusals, ...decisions])(
    "says for $title what to look at, what to do and what not to do",
    ({ text }) => {
      for (const part of ["Look at", "Do", "Do not"]) {
        expect(text).toMatch(new RegExp(`^- \\*\\*${part}\\.\\*\\* \\S`, "m"));
      }
    },
  );

  it("names only metrics and attributes that there are", () => {
    const known = [textOf("docs/metrics.md"), textOf("docs/tracing.md"), textOf("docs/guard.md")];
    const named = [...page.matchAll(/`((?:weir|rpc|network|server|error)\.[a-z_.]+)`/g)];
    const unknown = named
      .map(([, name = ""]) => name)
      .filter((name) => !known.some((text) => text.includes(`\`${name}\``)));
    expect(unknown).toEqual([]);
  });
});

/** The anchor of a heading, as GitHub makes it. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\w\s-]/g, "")
    .replaceAll(" ", "-");
}

const headingsOf = (text: string) =>
  [...text.matchAll(/^#+ (.+)$/gm)].map(([, title = ""]) => title);

it.each(["docs/runbook.md", "docs/backends.md"])("%s links only to sections that exist", (from) => {
  const text = textOf(from);
  const links = [...text.matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)];
  expect(links).not.toEqual([]);
  const broken = links.filter(([, file = "", anchor]) => {
    const to = file === "" ? from : `docs/${file}`;
    if (!existsSync(pathOf(to))) return true;
    return anchor !== undefined && !headingsOf(textOf(to)).map(anchorOf).includes(anchor);
  });
  expect(broken.map(([link]) => link)).toEqual([]);
});
