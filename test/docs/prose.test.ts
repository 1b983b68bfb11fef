import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import {
  maxWords,
  pagesWithProse,
  phrases,
  piecesOf,
  problemsIn,
  sentencesOf,
} from "../../scripts/prose.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));

it.each(pagesWithProse(root))("%s has no long sentence and no phrase to be read twice", (page) => {
  expect(problemsIn(readFileSync(join(root, page), "utf8"))).toEqual([]);
});

const words = (count: number) => `Some${" more".repeat(count - 1)}`;
const problems = (markdown: string) =>
  problemsIn(markdown).map(({ line, message }) => [line, message]);

describe("a sentence", () => {
  it("may have as many words as the limit, and not one more", () => {
    expect(problems(`${words(maxWords)}.`)).toEqual([]);
    expect(problems(`A start.\n${words(maxWords + 1)}.`)).toEqual([
      [2, `a sentence of ${maxWords + 1} words, at most ${maxWords}: "Some more more more more …"`],
    ]);
  });

  it("goes on over lines, but not into the next item, cell, heading or paragraph", () => {
    const half = words(maxWords / 2 + 1);
    expect(problems(`${half}\n${half}`)).toHaveLength(1);
    expect(problems(`- ${half}\n  ${half}`)).toHaveLength(1);
    for (const apart of [
      `${half}\n\n${half}`,
      `- ${half}\n- ${half}`,
      `1. ${half}\n2. ${half}`,
      `| ${half} | ${half} |\n|---|---|`,
      `# ${half}\n${half}`,
    ]) {
      expect(problems(apart), apart).toEqual([]);
    }
  });

  it.each([
    ["One. Two? Three!", 3],
    ["It takes 0.5 s, e.g. here. Then it ends.", 2],
    ["One ([a page](a.md)). `two` is code. grpc-js is a name.", 3],
    ["It says **so.** And (this too.) Then that.", 3],
    ["One: two; three.", 1],
  ])("ends where a reader stops: %s", (text, count) => {
    expect(sentencesOf({ line: 1, text })).toHaveLength(count);
  });

  it("counts a link by its text and code as one word", () => {
    const text = "See [the long page](https://example.com/a/b/c) and `a b c d` there — now.";
    expect(sentencesOf({ line: 1, text })).toEqual([
      { line: 1, text: "See the long page and code there — now." },
    ]);
    expect(problems(`${words(maxWords - 1)} \`a b c\` —.`)).toEqual([]);
  });
});

describe("what is not prose", () => {
  it.each([
    ["a block of code", `\`\`\`ts\n${words(99)}\n\`\`\``],
    ["a block inside of an item", `- x\n\n  \`\`\`sh\n  ${words(99)}\n  \`\`\``],
    ["a comment", `<!-- ${words(99)} -->`],
    ["what is measured", `<!-- measured -->\n${words(99)}\n<!-- /measured -->`],
  ])("is left out: %s", (_, markdown) => {
    expect(problems(markdown)).toEqual([]);
  });

  it("ends with its fence", () => {
    expect(piecesOf("````md\n```\nx\n```\n````\nafter")).toEqual([{ line: 6, text: "after" }]);
    expect(problems(`<!-- measured -->\nx\n<!-- /measured -->\n${words(99)}`)).toHaveLength(1);
  });
});

describe("a phrase", () => {
  it.each(phrases)("%j is found, over the end of a line and in any case", (phrase, instead) => {
    const [first = "", ...rest] = phrase.toUpperCase().split(" ");
    const markdown = `x\n\nIt is ${[first, ...rest].join("\n")} here.`;
    expect(problems(markdown)).toEqual([[3, `"${phrase}": write ${instead}`]]);
  });

  it("is whole words, no code, and not what it only resembles", () => {
    expect(problems("The hand once, untold offers, `as a rule`.")).toEqual([]);
    expect(problems("It refuses so many calls that none is sent.")).toEqual([]);
  });
});
