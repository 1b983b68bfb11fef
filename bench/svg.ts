// Hand-drawn SVG: no dependency, and colours that can be told apart on white and on black.

/** A whole picture. `.title`, `.frame` and `.grid` are classes for its parts. */
export function picture(
  {
    width,
    height,
    label,
    description,
    styles = "",
  }: {
    readonly width: number;
    readonly height: number;
    readonly label: string;
    /** What the picture shows, for whoever does not see it. */
    readonly description: string;
    readonly styles?: string;
  },
  parts: readonly string[],
): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-labelledby="title desc">`,
    `<title id="title">${label}</title>`,
    `<desc id="desc">${description}</desc>`,
    "<style>",
    "text { font: 12px sans-serif; fill: #57606a } .title { font-weight: bold; fill: #24292f }",
    ".frame, .grid { stroke: #8c959f; stroke-opacity: 0.35; fill: none }",
    ...(styles === "" ? [] : [styles]),
    "@media (prefers-color-scheme: dark) { text { fill: #9198a1 } .title { fill: #f0f6fc } }",
    "</style>",
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}

export function text(
  x: number,
  y: number,
  content: string,
  { kind = "", anchor = "start" }: { readonly kind?: string; readonly anchor?: string } = {},
): string {
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}"${kind === "" ? "" : ` class="${kind}"`}>${content}</text>`;
}

/** To what can be seen. */
export function round(value: number): number {
  return Math.round(10 * value) / 10;
}
