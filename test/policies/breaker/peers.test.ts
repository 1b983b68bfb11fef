import { describe, expect, it } from "vitest";
import { Peers } from "../../../src/policies/breaker/peers.js";

/** Servers behind one target, of which nothing is remembered for longer than a second. */
const setup = () => new Peers(1_000);

describe("what is known of the servers behind a target", () => {
  it("is that one serves, while its last call went well and is not long ago", () => {
    const peers = setup();
    expect(peers.someServed(0)).toBe(false);
    peers.note("a", true, 0);
    expect(peers.someServed(0)).toBe(false);
    peers.note("b", false, 0);
    expect(peers.someServed(999)).toBe(true);
    expect(peers.someServed(1_000)).toBe(false);
    peers.note("b", true, 500);
    expect(peers.someServed(500)).toBe(false);
  });

  it("is that there are several, once calls have gone to more than one", () => {
    const peers = setup();
    peers.note("a", false, 0);
    peers.note("a", true, 0);
    expect(peers.several).toBe(false);
    peers.note("b", true, 0);
    expect(peers.several).toBe(true);
  });

  it("is the share of its calls that went wrong, for each by itself", () => {
    const peers = setup();
    for (const failed of [true, true, true, false]) peers.note("a", failed, 0);
    expect(peers.someBelow(0.75, 0)).toBe(false);
    expect(peers.someBelow(0.76, 0)).toBe(true);
    for (const failed of [true, false]) peers.note("b", failed, 0);
    expect(peers.someBelow(0.51, 0)).toBe(true);
    expect(peers.someBelow(0.5, 0)).toBe(false);
    expect(peers.someBelow(0.76, 1_000)).toBe(false);
  });

  it("weighs the latest calls most, however many there were", () => {
    const peers = setup();
    for (let call = 0; call < 1_000; call += 1) peers.note("a", false, 0);
    for (let call = 0; call < 64; call += 1) peers.note("a", true, 0);
    // Without halving, 64 of 1,064 would be a share of 0.06; with it, 64 of 128 at the most.
    expect(peers.someBelow(0.5, 0)).toBe(false);
  });

  it("is that of 64 calls at most, in which earlier ones count half", () => {
    const peers = setup();
    for (let call = 0; call < 64; call += 1) peers.note("a", true, 0);
    for (let call = 0; call < 32; call += 1) peers.note("a", false, 0);
    expect(peers.someBelow(0.5, 0)).toBe(false);
    expect(peers.someBelow(0.51, 0)).toBe(true);
  });

  it("stays the same share for one of whose calls each goes wrong, however many there were", () => {
    const peers = setup();
    for (let call = 0; call < 1_000; call += 1) peers.note("a", true, 0);
    expect(peers.someBelow(1, 0)).toBe(false);
  });

  it("ends when no server can be reached any more", () => {
    const peers = setup();
    peers.note("a", false, 0);
    peers.note("b", false, 0);
    peers.forget();
    expect(peers.someServed(0)).toBe(false);
    expect(peers.several).toBe(false);
    peers.note("b", true, 0);
    expect(peers.someBelow(1, 0)).toBe(false);
    expect(peers.someServed(0)).toBe(false);
  });

  it("is known of 256 of them, those heard of last", () => {
    const peers = setup();
    peers.note("served", false, 0);
    for (let peer = 1; peer < 256; peer += 1) peers.note(`failing-${peer}`, true, peer);
    expect(peers.someServed(256)).toBe(true);
    peers.note("failing-256", true, 256);
    expect(peers.someServed(256)).toBe(false);
  });
});
