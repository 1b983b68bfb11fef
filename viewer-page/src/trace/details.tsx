import type { ComponentChildren } from "preact";
import type { Attributes, AttributeValue } from "../../../src/viewer/api.js";
import { formatMs } from "../format.js";
import { eventWords, isDecision, isObserved, shapeOf } from "./decisions.js";
import { summaryOf } from "./summary.js";
import { TimeSpent } from "./time-strip.js";
import { labelOf, type SpanNode, statusOf } from "./tree.js";

/** All that is known of one span. */
export function Details({
  node,
  originMs,
  colors,
  onClose,
}: {
  readonly node: SpanNode;
  readonly originMs: number;
  readonly colors: ReadonlyMap<string, string>;
  readonly onClose: () => void;
}) {
  const { span } = node;
  const isCall = node.role === "call" || node.role === "server";
  return (
    <aside class="details" aria-label="Details of the span">
      <header>
        <span class="swatch" data-color={colors.get(span.service)} aria-hidden="true" />
        <h2>{labelOf(node)}</h2>
        <button type="button" class="quiet" onClick={onClose} aria-label="Close the details">
          <span aria-hidden="true">✕</span>
        </button>
      </header>
      {/* Scrolls by itself, so the keyboard must reach it. */}
      <div class="details-body" tabIndex={0} role="group" aria-label="Attributes and events">
        {isCall ? (
          <div class="details-story">
            <ul>
              {summaryOf(node).map((sentence) => (
                <li key={sentence}>{sentence}</li>
              ))}
            </ul>
            <TimeSpent call={node} colors={colors} />
          </div>
        ) : null}
        <dl class="facts">
          <Fact name="Service">{span.service}</Fact>
          <Fact name="Name">{span.name}</Fact>
          <Fact name="Kind">{span.kind}</Fact>
          <Fact name="Start">{formatMs(span.startMs - originMs)}</Fact>
          <Fact name="Duration">{formatMs(span.endMs - span.startMs)}</Fact>
          <Fact name="Result">
            {statusOf(span)}
            {span.status === "error" ? " (error)" : ""}
            {node.superseded ? ", lost to another attempt" : ""}
          </Fact>
          {span.statusMessage === undefined ? null : (
            <Fact name="Message">{span.statusMessage}</Fact>
          )}
          {node.orphan ? <Fact name="Parent">{span.parentSpanId} (not here)</Fact> : null}
          <Fact name="Span id">
            <code>{span.spanId}</code>
          </Fact>
          <Fact name="Made by">{span.scope}</Fact>
        </dl>
        <h3>Events</h3>
        {span.events.length === 0 ? <p class="faint">None.</p> : null}
        <ol class="events">
          {span.events.map((event, index) => (
            <li key={index}>
              <span
                class={`mark mark-inline mark-${shapeOf(event)} ${isObserved(event) ? "mark-observed" : ""}`}
                aria-hidden="true"
              />
              <span class="num faint">{formatMs(event.atMs - originMs)}</span>
              <span class="event-words">{eventWords(event)}</span>
              {isDecision(event) ? null : <AttributeTable attributes={event.attributes} />}
            </li>
          ))}
        </ol>
        <h3>Attributes</h3>
        <AttributeTable attributes={span.attributes} />
      </div>
    </aside>
  );
}

function Fact({ name, children }: { readonly name: string; readonly children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function AttributeTable({ attributes }: { readonly attributes: Attributes }) {
  const entries = Object.entries(attributes).sort(([a], [b]) => a.localeCompare(b));
  if (entries.length === 0) return null;
  return (
    <dl class="facts attributes">
      {entries.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>
            <code>{valueText(value)}</code>
          </dd>
        </div>
      ))}
    </dl>
  );
}

function valueText(value: AttributeValue): string {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
