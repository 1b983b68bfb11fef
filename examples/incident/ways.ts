/** The ways in which the incident is played, side by side. */
export type Way = "toolkit" | "retryPolicy" | "bare";

export const ways: readonly Way[] = ["toolkit", "retryPolicy", "bare"];

/** Heads of the columns. */
export const titles: Readonly<Record<Way, string>> = {
  toolkit: "grpc-weir",
  retryPolicy: "retryPolicy",
  bare: "bare grpc-js",
};

/** What a column is. */
export const explanations: Readonly<Record<Way, string>> = {
  toolkit:
    "grpc-js with this package: the two policies that its README shows, on every client and server",
  retryPolicy:
    "grpc-js with its own retries: a service config of as many attempts and the same waits, on every client",
  bare: "grpc-js as it comes, without retries",
};

export function isWay(text: string | undefined): text is Way {
  return ways.some((way) => way === text);
}
