/** What the page shows, as it stands behind `#` in the address. */
export type Route =
  | { readonly view: "calls"; readonly query: URLSearchParams }
  | { readonly view: "trace"; readonly traceId: string; readonly spanId?: string }
  | { readonly view: "board" }
  | { readonly view: "compare" };

/** What is no known address leads to the calls. */
export function routeOf(hash: string): Route {
  const [path, query] = splitAt(hash.replace(/^#/, ""), "?");
  const [view, id = ""] = path.split("/").filter((part) => part !== "");
  const params = new URLSearchParams(query);
  if (view === "board" || view === "compare") return { view };
  if (view === "trace" && id !== "") {
    const spanId = params.get("span");
    return { view, traceId: decoded(id), ...(spanId === null ? {} : { spanId }) };
  }
  return { view: "calls", query: params };
}

export function hashOf(route: Route): string {
  switch (route.view) {
    case "calls": {
      const query = route.query.toString();
      return query === "" ? "#/calls" : `#/calls?${query}`;
    }
    case "trace": {
      const path = `#/trace/${encodeURIComponent(route.traceId)}`;
      return route.spanId === undefined ? path : `${path}?span=${encodeURIComponent(route.spanId)}`;
    }
    case "board":
    case "compare":
      return `#/${route.view}`;
  }
}

function splitAt(text: string, separator: string): readonly [string, string] {
  const at = text.indexOf(separator);
  return at === -1 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
