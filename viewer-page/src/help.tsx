import { useEffect, useRef } from "preact/hooks";
import { useObservable } from "./hooks.js";
import { singleKeys } from "./preferences.js";

const groups: readonly { readonly title: string; readonly keys: readonly [string, string][] }[] = [
  {
    title: "Everywhere",
    keys: [
      ["1 2 3", "calls, board, compare"],
      ["?", "this help"],
      ["d", "light, dark, or as the system"],
    ],
  },
  {
    title: "Calls",
    keys: [
      ["/", "search"],
      ["p", "pause or resume"],
      ["↓ ↑ or j k", "next, previous call"],
      ["Enter", "open the trace"],
    ],
  },
  {
    title: "Trace",
    keys: [
      ["↓ ↑ or j k", "next, previous span"],
      ["→ ←", "expand, collapse"],
      ["Enter", "attributes and events"],
      ["z", "zoom to the span"],
      ["0", "the whole trace"],
      ["e w", "expand all, collapse attempts"],
      ["t", "as a table"],
      ["c", "copy the trace id"],
      ["r", "load it again"],
      ["Esc", "close, then back"],
    ],
  },
];

export function Help({ open, onClose }: { readonly open: boolean; readonly onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (open) dialog.current?.showModal();
    else dialog.current?.close();
  }, [open]);
  return (
    <dialog ref={dialog} class="help" aria-labelledby="help-title" onClose={onClose}>
      {open ? <HelpContent onClose={onClose} /> : null}
    </dialog>
  );
}

function HelpContent({ onClose }: { readonly onClose: () => void }) {
  const keysOn = useObservable(singleKeys);
  return (
    <>
      <header>
        <h2 id="help-title">Keyboard and marks</h2>
        <button type="button" onClick={onClose}>
          Close
        </button>
      </header>
      <div class="help-groups">
        {groups.map(({ title, keys }) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl class="keys">
              {keys.map(([key, does]) => (
                <div key={key}>
                  <dt>
                    <kbd>{key}</kbd>
                  </dt>
                  <dd>{does}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
        <section>
          <h3>The waterfall</h3>
          <dl class="keys">
            <Sample look="bar bar-server" does="a call, or a server at work" />
            <Sample look="bar bar-attempt" does="an attempt on the wire" />
            <Sample look="bar bar-wait" does="a wait" />
            <Sample look="bar bar-lost" does="an attempt that lost" />
            <Sample look="bar bar-server bar-failed" does="it failed" />
            <Sample look="mark mark-reject" does="refused or expired" />
            <Sample look="mark mark-retry" does="retried" />
            <Sample look="mark mark-hedge" does="hedged" />
            <Sample look="mark mark-queue" does="queued" />
            <Sample look="mark mark-other" does="another decision" />
            <Sample look="mark mark-reject mark-observed" does="only observed" />
          </dl>
        </section>
      </div>
      <label class="check">
        <input
          type="checkbox"
          checked={keysOn}
          onChange={({ currentTarget }) => singleKeys.set(currentTarget.checked)}
        />
        Single keys are shortcuts
      </label>
    </>
  );
}

function Sample({ look, does }: { readonly look: string; readonly does: string }) {
  return (
    <div>
      <dt>
        <span class="sample" aria-hidden="true">
          <span class={look} data-color="0" />
        </span>
      </dt>
      <dd>{does}</dd>
    </div>
  );
}
