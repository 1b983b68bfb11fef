/** Colours for a person who watches. */
export interface Paint {
  good(text: string): string;
  poor(text: string): string;
  bad(text: string): string;
  strong(text: string): string;
  faint(text: string): string;
}

/** Without a terminal, or where it shows no colours or `NO_COLOR` asks for none, texts stay as they are. */
export function paintFor(out: Pick<NodeJS.WriteStream, "hasColors" | "isTTY">): Paint {
  // `hasColors` goes by TERM, NO_COLOR and FORCE_COLOR.
  const colours = out.isTTY && out.hasColors();
  const sgr = (code: number) => (text: string) => (colours ? `\x1b[${code}m${text}\x1b[0m` : text);
  return { good: sgr(32), poor: sgr(33), bad: sgr(31), strong: sgr(1), faint: sgr(2) };
}
