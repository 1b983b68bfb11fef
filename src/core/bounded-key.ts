/** Keys longer than this are shortened: what a caller sends must not decide how much memory a key takes. */
const maxLength = 256;
const keptLength = 200;

/** The key under which state is kept for a name: the name itself, or a short stand-in for a long one. */
export function boundedKey(name: string): string {
  if (name.length <= maxLength) return name;
  // The beginning alone would take tokens with a common header for one. Joined and not added: a sum of strings
  // would keep the whole name alive.
  return [name.slice(0, keptLength), name.length, hash(name, 0), hash(name, 1)].join("~");
}

/** FNV-1a over 16-bit units: to tell names apart, not to withstand somebody who looks for two that collide. */
function hash(text: string, seed: number): string {
  let state = (0x811c9dc5 ^ seed) >>> 0;
  for (let index = 0; index < text.length; index += 1) {
    state = Math.imul(state ^ text.charCodeAt(index), 0x01000193);
  }
  return (state >>> 0).toString(16);
}
