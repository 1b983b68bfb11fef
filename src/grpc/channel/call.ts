import {
  type CallCredentials,
  connectivityState,
  Metadata,
  propagate,
  type StatusObject,
  status,
} from "@grpc/grpc-js";
import { createCall } from "../deadline.js";
import { receivedStatus } from "../status/foreign-status.js";
import { channelClosed, interceptorThrew } from "../status/local.js";
import type { Channel, ChannelCall, ClientListener, MessageContext, ParentCall } from "../types.js";

export interface CallSetup {
  readonly method: string;
  readonly deadline: Date | number;
  readonly host: string | null | undefined;
  readonly parent: ParentCall;
  readonly propagateFlags: number | null | undefined;
  /** The peer of a call that has no connection yet, as in grpc-js. */
  readonly target: string;
  /** Chooses the connection. Throws when the channel is closed. */
  readonly choose: (method: string, metadata: Metadata) => PartitionConnection;
}

/**
 * A call of a partitioned channel. The metadata decide which connection it uses, so the call of grpc-js is made in
 * `start`. Of messages that come before that, the last one is kept, as in grpc-js.
 *
 * One object is both the call and the listener of the call below, which saves an allocation.
 */
export class PartitionedCall implements ChannelCall, ClientListener {
  readonly #setup: CallSetup;
  readonly #parentLived: boolean;
  #call: ChannelCall | undefined;
  #connection: PartitionConnection | undefined;
  #listener: ClientListener | undefined;
  #credentials: CallCredentials | undefined;
  #early: { readonly context: MessageContext; readonly message: Buffer } | undefined;
  #readWanted = false;
  #halfClosed = false;
  #ended: StatusObject | undefined;

  constructor(setup: CallSetup) {
    this.#setup = setup;
    this.#parentLived = setup.parent?.cancelled === false;
  }

  start(metadata: Metadata, listener: ClientListener): void {
    this.#listener = listener;
    if (this.#ended !== undefined) {
      this.#tell(this.#ended);
      return;
    }
    let call: ChannelCall;
    try {
      call = this.#create(metadata);
      call.start(metadata, this);
    } catch (error) {
      this.#fail(channelClosed(error) ?? interceptorThrew(error));
      return;
    }
    if (this.#readWanted) call.startRead();
    if (this.#early !== undefined) {
      call.sendMessageWithContext(this.#early.context, this.#early.message);
      this.#early = undefined;
    }
    if (this.#halfClosed) call.halfClose();
    this.#heedParent(call);
  }

  sendMessageWithContext(context: MessageContext, message: Buffer): void {
    if (this.#call === undefined) this.#early = { context, message };
    else this.#call.sendMessageWithContext(context, message);
  }

  startRead(): void {
    if (this.#call === undefined) this.#readWanted = true;
    else this.#call.startRead();
  }

  halfClose(): void {
    if (this.#call === undefined) this.#halfClosed = true;
    else this.#call.halfClose();
  }

  cancelWithStatus(code: status, details: string): void {
    if (this.#call === undefined) this.#end({ code, details, metadata: new Metadata() });
    else this.#call.cancelWithStatus(code, details);
  }

  getPeer(): string {
    return this.#call?.getPeer() ?? this.#setup.target;
  }

  /** Names the call in traces of grpc-js, which have no calls that have not been started. */
  getCallNumber(): number {
    return this.#call?.getCallNumber() ?? 0;
  }

  setCredentials(credentials: CallCredentials): void {
    if (this.#call === undefined) this.#credentials = credentials;
    else this.#call.setCredentials(credentials);
  }

  getAuthContext(): ReturnType<ChannelCall["getAuthContext"]> {
    return this.#call?.getAuthContext() ?? null;
  }

  // ---- From below.

  onReceiveMetadata(metadata: Metadata): void {
    this.#listener?.onReceiveMetadata(metadata);
  }

  onReceiveMessage(message: unknown): void {
    this.#listener?.onReceiveMessage(message);
  }

  onReceiveStatus(received: StatusObject): void {
    this.#leave();
    // A call that could not be started has ended already, and may get a second status from below.
    if (this.#ended !== undefined) return;
    this.#listener?.onReceiveStatus(receivedStatus(received));
  }

  #create(metadata: Metadata): ChannelCall {
    const { choose, method, deadline, host, parent, propagateFlags } = this.#setup;
    const connection = choose(method, metadata);
    const call = createCall(connection.channel, method, deadline, host, parent, propagateFlags);
    if (this.#credentials !== undefined) call.setCredentials(this.#credentials);
    connection.enter();
    this.#connection = connection;
    this.#call = call;
    return call;
  }

  /** grpc-js follows the parent from when the call is made. This makes up for a cancellation before that. */
  #heedParent(call: ChannelCall): void {
    const { parent, propagateFlags } = this.#setup;
    if (!this.#parentLived || parent?.cancelled !== true) return;
    if ((propagateFlags ?? propagate.DEFAULTS) & propagate.CANCELLATION) {
      call.cancelWithStatus(status.CANCELLED, "Cancelled by parent call");
    }
  }

  /** Ends a call that could not be started, and cancels the call below, which would keep its channel busy. */
  #fail(failed: StatusObject): void {
    this.#leave();
    this.#end(failed);
    this.#call?.cancelWithStatus(failed.code, failed.details);
    this.#call = undefined;
  }

  #leave(): void {
    this.#connection?.leave();
    this.#connection = undefined;
  }

  /** Ends a call that has none below. */
  #end(final: StatusObject): void {
    if (this.#ended !== undefined) return;
    this.#ended = final;
    if (this.#listener !== undefined) this.#tell(final);
  }

  #tell(final: StatusObject): void {
    const listener = this.#listener;
    process.nextTick(() => listener?.onReceiveStatus(final));
  }
}

/**
 * The numbers of one connection at one moment.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/connection-bulkhead.md
 */
export interface ChannelConnectionSnapshot {
  readonly state: keyof typeof connectivityState;
  /** Calls that run. */
  readonly inFlight: number;
  /** Calls since the channel was made. */
  readonly started: number;
}

/**
 * The numbers of one partition at one moment: the sums, and those of its connections.
 *
 * @see https://github.com/grpc-weir/grpc-weir/blob/main/docs/connection-bulkhead.md
 */
export interface ChannelPartitionSnapshot {
  readonly inFlight: number;
  readonly started: number;
  readonly connections: readonly ChannelConnectionSnapshot[];
}

/** One connection of a partition: a channel that does not share its connection. */
export class PartitionConnection {
  readonly channel: Channel;
  #inFlight = 0;
  #started = 0;
  /** The number of the choice by which it was last chosen. */
  #turn = 0;

  constructor(channel: Channel) {
    this.channel = channel;
  }

  enter(): void {
    this.#inFlight += 1;
    this.#started += 1;
  }

  leave(): void {
    this.#inFlight -= 1;
  }

  take(turn: number): void {
    this.#turn = turn;
  }

  /** Whether the next call should use this connection rather than the other. */
  isBetterThan(other: PartitionConnection): boolean {
    const failing = this.#failing();
    if (failing !== other.#failing()) return !failing;
    if (this.#inFlight !== other.#inFlight) return this.#inFlight < other.#inFlight;
    return this.#turn < other.#turn;
  }

  snapshot(): ChannelConnectionSnapshot {
    const name = connectivityState[this.channel.getConnectivityState(false)];
    const state = name as ChannelConnectionSnapshot["state"];
    return { state, inFlight: this.#inFlight, started: this.#started };
  }

  #failing(): boolean {
    return this.channel.getConnectivityState(false) === connectivityState.TRANSIENT_FAILURE;
  }
}

/** The connections that the calls of one class share. */
export class Partition {
  readonly connections: readonly [PartitionConnection, ...PartitionConnection[]];
  #turns = 0;

  constructor(connections: number, open: () => Channel) {
    const first = new PartitionConnection(open());
    this.connections = [
      first,
      ...Array.from({ length: connections - 1 }, () => new PartitionConnection(open())),
    ];
  }

  /**
   * The connection with the fewest calls in flight; among equals, the one that was chosen longest ago. A connection
   * that cannot connect comes last: its calls fail at once, so that it would always have the fewest and attract all
   * calls.
   */
  pick(): PartitionConnection {
    const connection = this.connections.reduce((best, each) =>
      each.isBetterThan(best) ? each : best,
    );
    this.#turns += 1;
    connection.take(this.#turns);
    return connection;
  }

  snapshot(): ChannelPartitionSnapshot {
    const connections = this.connections.map((connection) => connection.snapshot());
    return {
      inFlight: connections.reduce((sum, { inFlight }) => sum + inFlight, 0),
      started: connections.reduce((sum, { started }) => sum + started, 0),
      connections,
    };
  }
}
