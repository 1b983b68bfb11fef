// The same flags from OpenFeature, with the provider that its SDK has for tests.
// #region open-feature
import { InMemoryProvider, OpenFeature } from "@openfeature/server-sdk";
import { createWeir, openFeatureFlags } from "grpc-weir";

export async function withOpenFeature(provider: InMemoryProvider) {
  await OpenFeature.setProviderAndWait(provider);
  const flags = openFeatureFlags(OpenFeature.getClient(), {
    names: ["kill.shop.Recommendations", "mode.breaker"], // those that must hold for the first call
  });
  await flags.ready;
  return { flags, weir: createWeir({ flags }) };
}
// #endregion

/** A provider that has one flag, a mode. */
export function providerWith(mode: string): InMemoryProvider {
  const flag = { variants: { it: mode }, defaultVariant: "it", disabled: false };
  return new InMemoryProvider({ "mode.breaker": flag });
}
