import { sha256 as portableSha256 } from '@noble/hashes/sha2.js';
import { assertBytes } from '../core/index.ts';

/** Bytes of a SHA-256 digest (FIPS 180-4). */
export const SHA256_BYTES = 32;

/** A SHA-256 that is fed piece by piece. `digest` ends it. */
export interface Sha256 {
  /** Adds `bytes`, which are not kept. Returns itself, so that calls can be chained. */
  update(bytes: Uint8Array): Sha256;
  /** The 32-byte digest, a new array that the caller owns. Neither method may be called after it. */
  digest(): Uint8Array;
}

/** One implementation of SHA-256. */
export interface Sha256Engine {
  readonly hash: (bytes: Uint8Array) => Uint8Array;
  readonly create: () => Sha256;
}

type NodeCrypto = typeof import('node:crypto');

/** Runs anywhere: plain JavaScript. */
export const portableEngine: Sha256Engine = {
  hash: (bytes) => portableSha256(bytes),
  create: () => portableSha256.create(),
};

/** OpenSSL through `node:crypto`: some 10 times faster on long payloads. */
export function nativeEngine(crypto: NodeCrypto): Sha256Engine {
  const create = () => new NativeSha256(crypto);
  // The one-shot call (Node 20.12 and later) saves the making of a stream object.
  if (typeof crypto.hash !== 'function') return { hash: (bytes) => create().update(bytes).digest(), create };
  return { hash: (bytes) => fromText(crypto.hash('sha256', bytes, 'binary')), create };
}

/**
 * A digest from a text with a letter for each byte. A Buffer would come with memory outside the heap, which costs more
 * than the hash of a short value: 1.0 us for both, and 0.3 this way.
 */
function fromText(text: string): Uint8Array {
  const digest = new Uint8Array(SHA256_BYTES);
  for (let i = 0; i < SHA256_BYTES; i++) digest[i] = text.charCodeAt(i);
  return digest;
}

class NativeSha256 implements Sha256 {
  readonly #hash: import('node:crypto').Hash;

  constructor(crypto: NodeCrypto) {
    this.#hash = crypto.createHash('sha256');
  }

  update(bytes: Uint8Array): this {
    this.#hash.update(bytes);
    return this;
  }

  digest(): Uint8Array {
    return asPlain(this.#hash.digest());
  }
}

/** A Buffer slices and prints unlike a Uint8Array: nothing of ours hands one out. */
function asPlain(buffer: Uint8Array): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/** What may offer `node:crypto`. */
export interface Sha256Host {
  readonly process?: { readonly getBuiltinModule?: (id: 'node:crypto') => NodeCrypto | undefined };
}

/** The fastest engine of `host`. It is asked at run time, so that the module loads where there is no node:crypto. */
export function engineOf(host: Sha256Host): Sha256Engine {
  const crypto = host.process?.getBuiltinModule?.('node:crypto');
  return crypto === undefined ? portableEngine : nativeEngine(crypto);
}

const engine = engineOf(globalThis);

/**
 * The SHA-256 of `bytes`, which are not kept.
 * @returns 32 bytes, a new array that the caller owns
 * @throws TypeError unless `bytes` is a Uint8Array
 */
export function sha256(bytes: Uint8Array): Uint8Array {
  assertBytes(bytes, 'bytes');
  return engine.hash(bytes);
}

/** A SHA-256 of what comes in pieces. */
export function createSha256(): Sha256 {
  return engine.create();
}
