import type {
  ClientOptions,
  InterceptingCall,
  NextCall,
  ServerInterceptingCallInterface,
  ServerMethodDefinition,
} from "@grpc/grpc-js";

// grpc-js does not export these types. They are derived from those that it exports.

/** The call below an interceptor, on the client. */
export type ClientCall = ReturnType<NextCall>;
/** Receives the response of a call, on the client. */
export type ClientListener = Required<NonNullable<Parameters<ClientCall["start"]>[1]>>;
/** The write callback and flags of an outbound message. */
export type MessageContext = Parameters<ClientCall["sendMessageWithContext"]>[0];
/** The call below an interceptor, on the server. */
export type ServerCall = ServerInterceptingCallInterface;
/** Receives the request of a call, on the server. */
export type ServerCallListener = Parameters<ServerCall["start"]>[0];
/** The identity of a peer, such as its certificate. */
export type AuthContext = NonNullable<ReturnType<InterceptingCall["getAuthContext"]>>;
/** A status as a handler or an interceptor sends it. */
export type PartialStatus = Parameters<ServerCall["sendStatus"]>[0];

/** The channel of a client. */
export type Channel = NonNullable<ClientOptions["channelOverride"]>;
/** A call of a channel, below all interceptors. */
export type ChannelCall = ReturnType<Channel["createCall"]>;
/** The inbound call that a call of a channel is made for. */
export type ParentCall = Parameters<Channel["createCall"]>[3];

/**
 * The four shapes of a gRPC method.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/policies.md
 */
export type CallKind = "unary" | "client-stream" | "server-stream" | "bidi";

export function callKind(
  definition: Pick<ServerMethodDefinition<unknown, unknown>, "requestStream" | "responseStream">,
): CallKind {
  if (definition.requestStream) return definition.responseStream ? "bidi" : "client-stream";
  return definition.responseStream ? "server-stream" : "unary";
}

/** `/pkg.Service/Method` → `pkg.Service`. */
export function serviceOf(path: string): string {
  const end = path.lastIndexOf("/");
  return path.slice(path.startsWith("/") ? 1 : 0, end <= 0 ? path.length : end);
}
