import { createWeir, type PolicyEvent, type PolicySource } from "grpc-weir";
import type { VirtualClock } from "grpc-weir/testing";
import { onTestFinished } from "vitest";

/** A document of policies with one number. */
export const attempts = (count: number) => `client: { retry: { maxAttempts: ${count} } }\n`;

/** A weir that has one client, and what it was told of its policies. */
export function weirOf(policies: PolicySource, clock?: VirtualClock) {
  const told: string[] = [];
  const errors: string[] = [];
  const weir = createWeir({
    policies,
    ...(clock === undefined ? {} : { clock, random: () => 0 }),
    onPolicies: (event: PolicyEvent) =>
      told.push(
        event.kind === "refused"
          ? `refused ${event.source}`
          : event.changes
              .map(
                ({ option, before, after, place }) =>
                  `${option} ${String(before)} ${String(after)} ${place}`,
              )
              .join(),
      ),
    onError: (error) => errors.push(String(error)),
  });
  const inUse = weir.client();
  onTestFinished(() => weir.close());
  const now = () => {
    const [client] = inUse.interceptors === undefined ? [] : weir.explainPolicy("a.B/C").clients;
    return client?.settings.find(({ option }) => option === "retry.maxAttempts")?.value;
  };
  return { weir, told, errors, now };
}
