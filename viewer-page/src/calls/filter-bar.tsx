import type { RefObject, TargetedInputEvent } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useLatest, useMedia } from "../hooks.js";
import type { FacetValues } from "./calls-model.js";
import { type CallFilter, type Facet, facets, noFilter, queryOf } from "./filter.js";

const labels: Readonly<Record<Facet, string>> = {
  method: "Method",
  status: "Status",
  priority: "Priority",
  policy: "Policy",
  reason: "Reason",
  service: "Service",
};

/** How long typing must rest before the server is asked. */
const restMs = 200;

export function FilterBar({
  filter,
  known,
  searchRef,
  onChange,
}: {
  readonly filter: CallFilter;
  readonly known: FacetValues;
  readonly searchRef: RefObject<HTMLInputElement | null>;
  readonly onChange: (filter: CallFilter) => void;
}) {
  const search = useTyped(filter.q, (q) => onChange({ ...filter, q }));
  const atLeast = useTyped(filter.minMs > 0 ? String(filter.minMs) : "", (text) =>
    onChange({ ...filter, minMs: Math.max(0, Number(text)) }),
  );
  // With room for them, the fields are always there, and the head of the fold is not.
  const wide = useMedia("(width >= 760px)");
  const [opened, setOpened] = useState(false);
  const active = queryOf(filter).size;
  const inFacets = active - (filter.q === "" ? 0 : 1);
  return (
    <search class="filter-bar">
      <label class="field field-search">
        <span class="visually-hidden">Search method, service, reason or trace id</span>
        <input
          type="search"
          ref={searchRef}
          placeholder="Search method, service, reason, trace id"
          spellcheck={false}
          autocomplete="off"
          value={search.typed}
          onInput={search.onInput}
        />
      </label>
      <details
        class="filter-facets"
        open={wide || opened || inFacets > 0}
        onToggle={({ currentTarget }) => setOpened(currentTarget.open)}
      >
        <summary>Filters{inFacets > 0 ? <span class="badge">{inFacets}</span> : null}</summary>
        <div class="filter-fields">
          {facets.map((facet) => (
            <label class={`field ${filter[facet] === "" ? "" : "field-active"}`} key={facet}>
              <span>{labels[facet]}</span>
              <select
                value={filter[facet]}
                onChange={({ currentTarget }) =>
                  onChange({ ...filter, [facet]: currentTarget.value })
                }
              >
                <option value="">any</option>
                {optionsOf(known[facet], filter[facet]).map((value) => (
                  <option key={value} value={value}>
                    {value}
                  </option>
                ))}
              </select>
            </label>
          ))}
          <label class={`field ${filter.minMs > 0 ? "field-active" : ""}`}>
            <span>At least</span>
            <input
              type="number"
              min={0}
              placeholder="0"
              value={atLeast.typed}
              onInput={atLeast.onInput}
            />
            <span>ms</span>
          </label>
          {active > 0 ? (
            <button type="button" class="quiet" onClick={() => onChange(noFilter)}>
              Clear filter
            </button>
          ) : null}
        </div>
      </details>
    </search>
  );
}

/** What is chosen can be seen even if no call has it any more. */
function optionsOf(known: readonly string[], chosen: string): readonly string[] {
  return chosen === "" || known.includes(chosen) ? known : [chosen, ...known];
}

/** What is typed into a field, reported when the typing rests. */
function useTyped(value: string, onChange: (value: string) => void) {
  const [typed, setTyped] = useState(value);
  const latest = useLatest({ onChange, value });
  useEffect(() => setTyped(value), [value]);
  useEffect(() => {
    if (typed === latest.current.value) return undefined;
    const timer = setTimeout(() => latest.current.onChange(typed), restMs);
    return () => clearTimeout(timer);
  }, [typed, latest]);
  return {
    typed,
    onInput: (event: TargetedInputEvent<HTMLInputElement>) => setTyped(event.currentTarget.value),
  };
}
