const HEADER_BYTES = 16;
/** No value: a key that was deleted, or never put. */
export const ABSENT = 0;

/** A value that says whose it is, and of which every byte can be checked. */
export function makeValue(client, key, version, sizeBytes) {
  const value = new Uint8Array(Math.max(HEADER_BYTES, sizeBytes));
  const view = new DataView(value.buffer);
  view.setUint32(0, client, true);
  view.setUint32(4, key, true);
  view.setUint32(8, version, true);
  view.setUint32(12, value.length, true);
  fill(value.subarray(HEADER_BYTES), (client * 64 + key) * 2 ** 20 + version);
  return value;
}

/** @returns the version that `value` is, or undefined where it is not one that was made for this key, in full */
export function versionOf(client, key, value) {
  if (value.length < HEADER_BYTES) return undefined;
  const version = new DataView(value.buffer, value.byteOffset).getUint32(8, true);
  return Buffer.compare(value, makeValue(client, key, version, value.length)) === 0 ? version : undefined;
}

/** Numerical Recipes' linear congruential generator; its high byte is good enough to tell versions apart. */
function fill(bytes, seed) {
  let state = Math.imul(seed, 2_654_435_761) >>> 0;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = state >>> 24;
  }
}

/** What a key may hold, as far as its one writer can know. */
export class KeyModel {
  /** The last version that was acknowledged or read. */
  acked = ABSENT;
  /** Versions whose fate is not known. */
  maybe = new Set();
  nextVersion = 1;

  settle(version) {
    this.acked = version;
    this.maybe.clear();
  }

  doubt(version) {
    this.maybe.add(version);
  }

  allows(version) {
    return version === this.acked || this.maybe.has(version);
  }

  /** What is wrong with finding `version`, or undefined. */
  faultOf(version) {
    if (version === undefined) return 'torn';
    if (this.allows(version)) return undefined;
    if (version === ABSENT) return 'lost';
    return version < this.acked ? 'older' : 'came back';
  }

  toJSON() {
    return { acked: this.acked, maybe: [...this.maybe] };
  }

  static from({ acked, maybe }) {
    const model = new KeyModel();
    model.acked = acked;
    for (const version of maybe) model.doubt(version);
    return model;
  }
}
