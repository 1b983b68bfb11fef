export interface Block {
  readonly line: number;
  readonly from: number;
  readonly to: number;
  readonly indent: string;
  readonly body: string;
  readonly region: { readonly file: string; readonly name: string } | undefined;
}

export function documentsOf(root: string): string[];
export function regionIn(text: string, name: string): string;
export function blocksOf(markdown: string): Block[];
export function wantedFor(root: string, block: Block): string;
export function rewrite(
  root: string,
  markdown: string,
): { markdown: string; problems: { line: number; message: string }[] };
