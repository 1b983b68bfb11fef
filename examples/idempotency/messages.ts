/** What a server is told: what happens to it in the next call. */
export type Accident = "dies before it answers" | "freezes in the handler";

/** What a server tells. */
export type Told =
  | { readonly type: "listening"; readonly target: string }
  | { readonly type: "in the handler" };
