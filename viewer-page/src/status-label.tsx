/** How a status is drawn: by its glyph and its name, and by colour beside them. */
export type Tone = "ok" | "refused" | "failed";

const glyphs: Readonly<Record<Tone, string>> = { ok: "✓", refused: "⊘", failed: "✕" };

function toneOf(status: string, reason: string | undefined): Tone {
  if (status === "OK") return "ok";
  return reason === undefined ? "failed" : "refused";
}

export function StatusLabel({
  status,
  reason,
}: {
  readonly status: string;
  readonly reason?: string | undefined;
}) {
  const tone = toneOf(status, reason);
  return (
    <span class={`status status-${tone}`}>
      <span aria-hidden="true">{glyphs[tone]}</span> {status}
    </span>
  );
}
