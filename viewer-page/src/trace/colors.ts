/** How many colours of services the style sheet has. With more services, colours repeat; the names do not. */
const colorCount = 8;

/** The number of a colour for each service, in the order in which the services first appear. */
export function serviceColors(services: readonly string[]): ReadonlyMap<string, string> {
  const colors = new Map<string, string>();
  for (const service of services) {
    if (!colors.has(service)) colors.set(service, String(colors.size % colorCount));
  }
  return colors;
}
