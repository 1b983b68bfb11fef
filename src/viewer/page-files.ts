import { readdir, readFile, stat } from "node:fs/promises";
import { extname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";

export interface PageFile {
  readonly type: string;
  /** The name changes with the content, so that browsers may keep it. */
  readonly lasting: boolean;
  read(): Promise<Uint8Array>;
}

const types: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".ico": "image/x-icon",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".map": "application/json; charset=utf-8",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".txt": "text/plain; charset=utf-8",
  ".webmanifest": "application/manifest+json",
  ".woff2": "font/woff2",
};

/**
 * Where the page is built, seen from the sources and from the build; `undefined` in a bundle of a format without
 * `import.meta`, where nobody knows.
 */
function builtPage(): string | undefined {
  const url: string | undefined = import.meta.url;
  return url === undefined ? undefined : fileURLToPath(new URL("../../dist/viewer-page/", url));
}

const notBuilt = `<!doctype html>
<html lang="en">
<title>grpc-weir</title>
<h1>The page is not built</h1>
<p>Run <code>npm run build</code>, and start the viewer again. Traces are received meanwhile: <a href="/api/calls">the calls as JSON</a>.</p>
</html>
`;

/**
 * The files of the page by the path of their URL. They are listed here and once, so that no request can name another file.
 */
export async function pageFiles(
  folder: string | undefined = builtPage(),
): Promise<ReadonlyMap<string, PageFile>> {
  const files = new Map<string, PageFile>();
  for (const name of folder === undefined ? [] : await namesIn(folder)) {
    const type = types[extname(name)];
    const path = join(folder ?? "", name);
    if (type === undefined || !(await stat(path)).isFile()) continue;
    const url = `/${name.split(sep).join("/")}`;
    files.set(url, { type, lasting: url.startsWith("/assets/"), read: () => readFile(path) });
  }
  const index = files.get("/index.html") ?? {
    type: types[".html"] ?? "",
    lasting: false,
    read: async () => Buffer.from(notBuilt),
  };
  return files.set("/", index);
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder, { recursive: true });
  } catch {
    // The page is not built.
    return [];
  }
}
