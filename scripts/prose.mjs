// Reads the prose of README.md and docs/ as a tired person does: no sentence is too long, and no phrase has to be read twice.
// `node scripts/prose.mjs` checks all pages, `node scripts/prose.mjs docs/quota.md` some.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { documentsOf } from "./snippets.mjs";

/** How many words a sentence may have. */
export const maxWords = 40;

/** Phrases that have to be read twice, and what to write instead. */
export const phrases = [
  ["called off", "cancelled"],
  ["the hand on", "control of"],
  ["as a rule", "usually"],
  ["all the same", "still, anyway"],
  ["so many", "the number, or: many"],
  ["has no prospect", "cannot succeed"],
  ["have no prospect", "cannot succeed"],
  ["told of", "notified of, gets"],
  ["of its own accord", "by itself"],
  ["by and by", "gradually"],
  ["at the hands of", "by"],
  ["it goes without saying", "nothing at all"],
  ["needless to say", "nothing at all"],
  ["utilize", "use"],
  ["in order to", "to"],
];

/**
 * Pages that are not read: decisions keep the words in which they were made, and what is generated is mended in its source.
 */
const unread = /^docs\/(adr\/|policy-reference\.md$)/;

/** The pages that are checked, relative to the root. */
export function pagesWithProse(root) {
  return documentsOf(root).filter((page) => !unread.test(page));
}

/**
 * The text of a page in pieces that cannot share a sentence: paragraphs, items of lists, cells of tables, headings. Each has
 * the line, from 1, on which it begins. Code and what is measured are left out.
 */
export function piecesOf(markdown) {
  const pieces = [];
  let open;
  const close = () => {
    if (open !== undefined) pieces.push(open);
    open = undefined;
  };
  let fence;
  let measured = false;
  for (const [index, line] of markdown.split(/\r?\n/).entries()) {
    const ticks = /^\s*(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence !== undefined) {
      if (ticks !== undefined && line.trim() === ticks && ticks.length >= fence.length)
        fence = undefined;
      continue;
    }
    if (ticks !== undefined) {
      close();
      fence = ticks;
    } else if (/^\s*<!--/.test(line)) {
      close();
      if (/<!-- measured/.test(line)) measured = true;
      if (/<!-- \/measured/.test(line)) measured = false;
    } else if (measured || line.trim() === "") {
      close();
    } else if (/^\s*\|/.test(line)) {
      close();
      const cells = line.trim().replace(/\\\|/g, "/").split("|").slice(1, -1);
      for (const cell of cells) pieces.push({ line: index + 1, text: cell });
    } else if (/^#{1,6} /.test(line)) {
      close();
      pieces.push({ line: index + 1, text: line.replace(/^#+ /, "") });
    } else if (/^\s*([-*+]|\d+\.) /.test(line)) {
      close();
      open = { line: index + 1, text: line.replace(/^\s*([-*+]|\d+\.) /, "") };
    } else if (open === undefined) {
      open = { line: index + 1, text: line.replace(/^\s*>? ?/, "") };
    } else open.text += `\n${line.trim()}`;
  }
  close();
  return pieces;
}

/** A piece as it is read: links and pictures by their text, code as one word, no marks. */
function readable(text) {
  return text
    .replace(/(`+)(?:(?!\1)[\s\S])+\1/g, "code")
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/[*_]{1,2}(?=\S)|(?<=\S)[*_]{1,2}/g, "");
}

/** The sentences of a piece, with the line on which each begins. A colon ends none; two sentences in brackets are two. */
export function sentencesOf({ line, text }) {
  const sentences = [];
  let from = 0;
  const whole = readable(text);
  const ends = [
    ...whole.matchAll(/[.?!][")\]]*(?=\s+["([]*[\p{Lu}\d]|\s+(?:code|grpc-js|gRPC|gRFC)\b|\s*$)/gu),
  ];
  for (const end of [...ends.map((match) => match.index + match[0].length), whole.length]) {
    const sentence = whole.slice(from, end);
    if (sentence.trim() !== "") {
      const before = whole.slice(0, from + sentence.search(/\S/));
      sentences.push({ line: line + before.split("\n").length - 1, text: sentence.trim() });
    }
    from = end;
  }
  return sentences;
}

function wordsOf(sentence) {
  return sentence.split(/\s+/).filter((word) => /[\p{L}\p{N}]/u.test(word)).length;
}

/** "So many calls that …" is plain. */
const patterns = phrases.map(([phrase, instead]) => ({
  phrase,
  instead,
  pattern: new RegExp(`\\b${phrase.replaceAll(" ", "\\s+")}\\b(?!\\s+\\w+\\s+that\\b)`, "i"),
}));

/** What is wrong with the prose of a page. */
export function problemsIn(markdown) {
  const problems = [];
  for (const piece of piecesOf(markdown)) {
    for (const { line, text } of sentencesOf(piece)) {
      const words = wordsOf(text);
      if (words > maxWords) {
        const start = text.split(/\s+/).slice(0, 5).join(" ");
        problems.push({
          line,
          message: `a sentence of ${words} words, at most ${maxWords}: "${start} …"`,
        });
      }
      for (const { phrase, instead, pattern } of patterns) {
        if (pattern.test(text)) problems.push({ line, message: `"${phrase}": write ${instead}` });
      }
    }
  }
  return problems;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const named = process.argv.slice(2);
  for (const page of named.length > 0 ? named : pagesWithProse(root)) {
    for (const { line, message } of problemsIn(readFileSync(join(root, page), "utf8"))) {
      console.error(`${page}:${line}: ${message}`);
      process.exitCode = 1;
    }
  }
}
