/** Services by which a server is looked into. Their calls are never refused, least of all under load. */
const exempt = /^\/(grpc\.(health|reflection|channelz)|xds\.service\.orca)\./;

/** Whether a method, given by its path, is of such a service. */
export function isExempt(method: string): boolean {
  return exempt.test(method);
}
