export interface SearchedPage {
  readonly url: string;
  readonly title: string;
  readonly sections: readonly {
    readonly id: string;
    readonly heading: string;
    readonly text: string;
  }[];
}

export interface Hit {
  readonly url: string;
  readonly title: string;
  readonly heading: string;
  readonly excerpt: string;
  readonly score: number;
}

export function slugOf(heading: string): string;
export function find(pages: readonly SearchedPage[], query: string): Hit[];
export function siteOf(root: string): {
  files: Map<string, string>;
  pictures: string[];
  search: SearchedPage[];
};
