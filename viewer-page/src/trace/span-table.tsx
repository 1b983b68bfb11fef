import { formatMs } from "../format.js";
import { eventWords } from "./decisions.js";
import { failed, labelOf, type SpanNode, statusOf } from "./tree.js";

/** The trace as text. */
export function SpanTable({
  rows,
  originMs,
}: {
  readonly rows: readonly SpanNode[];
  readonly originMs: number;
}) {
  return (
    // Scrolls by itself, so the keyboard must reach it.
    <div class="table-scroller" tabIndex={0} role="region" aria-label="Spans as a table">
      <table class="plain-table">
        <thead>
          <tr>
            <th scope="col">Span</th>
            <th scope="col">Service</th>
            <th scope="col" class="num">
              Start
            </th>
            <th scope="col" class="num">
              Duration
            </th>
            <th scope="col">Result</th>
            <th scope="col">Decisions and events</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((node) => (
            <tr key={node.key}>
              <th
                scope="row"
                style={{ paddingInlineStart: `${8 + 14 * Math.min(12, node.depth)}px` }}
              >
                {labelOf(node)}
              </th>
              <td>{node.span.service}</td>
              <td class="num">{formatMs(node.span.startMs - originMs)}</td>
              <td class="num">{formatMs(node.span.endMs - node.span.startMs)}</td>
              <td>{resultOf(node)}</td>
              <td>
                {node.span.events.map((event, index) => (
                  <div key={index}>
                    {formatMs(event.atMs - originMs)}: {eventWords(event)}
                  </div>
                ))}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function resultOf(node: SpanNode): string {
  if (node.role === "wait") return "";
  if (node.superseded) return "lost";
  return failed(node) ? `✕ ${statusOf(node.span)}` : statusOf(node.span);
}
