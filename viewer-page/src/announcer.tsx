import { useEffect, useRef, useState } from "preact/hooks";

/** How often a screen reader is told, at most. */
const gapMs = 4_000;

/** Tells screen readers a text when it changes, politely, and the newest only. */
export function Announcer({ text }: { readonly text: string }) {
  const [told, setTold] = useState("");
  const toldAt = useRef(Number.NEGATIVE_INFINITY);
  useEffect(() => {
    const waitMs = Math.max(0, toldAt.current + gapMs - performance.now());
    const timer = setTimeout(() => {
      toldAt.current = performance.now();
      setTold(text);
    }, waitMs);
    return () => clearTimeout(timer);
  }, [text]);
  return (
    <p class="visually-hidden" role="status" aria-live="polite">
      {told}
    </p>
  );
}
