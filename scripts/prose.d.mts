export interface Piece {
  readonly line: number;
  readonly text: string;
}

export const maxWords: number;
export const phrases: readonly (readonly [phrase: string, instead: string])[];
export function pagesWithProse(root: string): string[];
export function piecesOf(markdown: string): Piece[];
export function sentencesOf(piece: Piece): Piece[];
export function problemsIn(markdown: string): { line: number; message: string }[];
