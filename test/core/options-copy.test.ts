import { describe, expect, it } from "vitest";
import { OptionsCopy } from "../../src/core/options-copy.js";

const judge = () => true;

describe("a copy of options", () => {
  it("says the same as the object that it was made of, until that changes", () => {
    const options: { retry: { codes: number[]; judge: () => boolean; maxAttempts?: number } } = {
      retry: { codes: [14], judge },
    };
    const copy = new OptionsCopy(options);
    expect(copy.matches(options)).toBe(true);
    expect(copy.matches({ retry: { judge, codes: [14] } })).toBe(true);
    options.retry.codes.push(10);
    expect(copy.matches(options)).toBe(false);
    options.retry.codes.pop();
    expect(copy.matches(options)).toBe(true);
    options.retry.maxAttempts = 3;
    expect(copy.matches(options)).toBe(false);
  });

  it.each([
    [{ a: undefined }, {}],
    [{ a: 1 }, { a: 1, b: undefined }],
    [{ a: [] }, { a: {} }],
    [{ a: {} }, { a: [] }],
    [{ a: [1] }, { a: { 0: 1, length: 1 } }],
    [{ a: { 0: 1, length: 1 } }, { a: [1] }],
    [{ a: [1, 2] }, { a: [1] }],
    [{ a: () => true }, { a: () => true }],
    [{ a: false }, { a: undefined }],
    [{ a: null }, { a: {} }],
    [{ a: new Date(0) }, { a: new Date(0) }],
  ])("tells %o from %o", (one, other) => {
    expect(new OptionsCopy(one).matches(one)).toBe(true);
    expect(new OptionsCopy(one).matches(other)).toBe(false);
  });

  it("runs no getter, and takes what a class made for what it is", () => {
    const options = {
      get retry(): never {
        throw new Error("not now");
      },
      registry: new Map(),
    };
    const copy = new OptionsCopy(options);
    expect(copy.matches(options)).toBe(true);
    options.registry = new Map();
    expect(copy.matches(options)).toBe(false);
  });

  it("is not the same as an object that can not be looked into any more", () => {
    const { proxy, revoke } = Proxy.revocable({ a: 1 }, {});
    const copy = new OptionsCopy(proxy);
    revoke();
    expect(copy.matches(proxy)).toBe(false);
  });
});
