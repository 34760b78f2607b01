import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, sign, verify } from 'node:crypto';
import { assertBytes, equalBytes, viewOf } from '../core/index.ts';
import { StateFsError } from '../statefs/index.ts';
import { getIfThere, OneAtATime, type StatePort } from './state-port.ts';

/** Where the device key is. Only `keystored` may read or write it. */
export const DEVICE_KEY_PATH = '/state/keystore/device.key';

/** What others may know of the device key. */
export interface DeviceKey {
  /** 1 for the first key, one more with each rotation. */
  readonly generation: number;
  /** Ed25519, 32 bytes (RFC 8032 §5.1.5). */
  readonly publicKey: Uint8Array;
  /** The key before this one, and its signature over this one: who trusts that one can trust this one. */
  readonly previous: { readonly publicKey: Uint8Array; readonly endorsement: Uint8Array } | undefined;
}

export interface Signature {
  /** Of the key that signed. */
  readonly generation: number;
  /** 64 bytes. */
  readonly signature: Uint8Array;
}

export interface KeystoredOptions {
  /** 32 unpredictable bytes, a new array. Default: the system's. Replace it where a run has to be the same every time. */
  readonly generateSeed?: () => Uint8Array;
}

const SEED_BYTES = 32;
const PUBLIC_BYTES = 32;
const SIGNATURE_BYTES = 64;
const MAGIC = 0x534b_4350;
const VERSION = 1;
/** Offsets of the record; the last two fields are zero in the first generation. */
const AT = { magic: 0, version: 4, generation: 8, seed: 12, publicKey: 44, previous: 76, endorsement: 108 } as const;
/** Bytes of a record. */
export const DEVICE_KEY_BYTES = 172;

const ED25519 = { kty: 'OKP', crv: 'Ed25519' } as const;

/** Whether `signature` is that of the Ed25519 key over `data`; false too for what is no key or no signature. */
export function verifySignature(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean {
  assertBytes(publicKey, 'publicKey');
  assertBytes(data, 'data');
  assertBytes(signature, 'signature');
  if (publicKey.length !== PUBLIC_BYTES || signature.length !== SIGNATURE_BYTES) return false;
  const key = createPublicKey({ key: { ...ED25519, x: base64url(publicKey) }, format: 'jwk' });
  return verify(null, data, key, signature);
}

/**
 * The device key: created once, signs, rotates. Private and public half, and what came before, are one value, so at no
 * cut is there half a key. The private half is in no answer, error or log: it leaves this process only through
 * {@link DEVICE_KEY_PATH}, and is read again for each signature.
 */
export class Keystored {
  readonly #store: StatePort;
  readonly #generateSeed: () => Uint8Array;
  readonly #turn = new OneAtATime();

  constructor(store: StatePort, options: KeystoredOptions = {}) {
    this.#store = store;
    this.#generateSeed = options.generateSeed ?? (() => new Uint8Array(randomBytes(SEED_BYTES)));
  }

  /**
   * The key; the first call on a new device creates it.
   * @throws StateFsError EINTEGRITY for a record that is no whole key: it is never replaced unasked
   */
  open(): Promise<DeviceKey> {
    return this.#turn.run(async () => {
      const record = await getIfThere(this.#store, DEVICE_KEY_PATH);
      if (record !== undefined) return decode(record).key;
      return await this.#save(undefined, 'create');
    });
  }

  /** @param data read before return, not kept */
  sign(data: Uint8Array): Promise<Signature> {
    assertBytes(data, 'data');
    const message = data.slice();
    return this.#turn.run(async () => {
      const { key, privateKey } = decode(await this.#store.get(DEVICE_KEY_PATH));
      return { generation: key.generation, signature: signWith(privateKey, message) };
    });
  }

  /** Replaces the key by a new one that the old one endorses. The old private half is gone once this returns. */
  rotate(): Promise<DeviceKey> {
    return this.#turn.run(async () => await this.#save(decode(await this.#store.get(DEVICE_KEY_PATH)), 'rotate'));
  }

  async #save(before: Decoded | undefined, purpose: string): Promise<DeviceKey> {
    const record = encode(this.#generateSeed(), before);
    try {
      await this.#store.putAtomic(DEVICE_KEY_PATH, record, { purpose: `device key: ${purpose}` });
      return decode(record).key;
    } finally {
      record.fill(0);
    }
  }
}

/**
 * What a record says of its key, in public.
 * @throws StateFsError EINTEGRITY for one that is no whole key
 */
export function readDeviceKey(record: Uint8Array): DeviceKey {
  assertBytes(record, 'record');
  return decode(record).key;
}

interface Decoded {
  readonly key: DeviceKey;
  readonly privateKey: KeyObject;
}

function encode(seed: Uint8Array, before: Decoded | undefined): Uint8Array {
  assertBytes(seed, 'seed');
  if (seed.length !== SEED_BYTES) throw new RangeError(`seed: expected ${SEED_BYTES} bytes, got ${seed.length}`);
  const record = new Uint8Array(DEVICE_KEY_BYTES);
  const view = viewOf(record);
  view.setUint32(AT.magic, MAGIC, true);
  record[AT.version] = VERSION;
  view.setUint32(AT.generation, (before?.key.generation ?? 0) + 1, true);
  record.set(seed, AT.seed);
  const publicKey = publicHalf(privateHalf(seed));
  seed.fill(0);
  record.set(publicKey, AT.publicKey);
  if (before !== undefined) {
    record.set(before.key.publicKey, AT.previous);
    record.set(signWith(before.privateKey, publicKey), AT.endorsement);
  }
  return record;
}

/** Checks that the halves belong together, and the endorsement: all of a key, or an error. */
function decode(record: Uint8Array): Decoded {
  if (record.length !== DEVICE_KEY_BYTES) damaged(`${record.length} bytes`);
  const view = viewOf(record);
  const generation = view.getUint32(AT.generation, true);
  const isOurs = view.getUint32(AT.magic, true) === MAGIC && view.getUint32(AT.version, true) === VERSION;
  if (!isOurs || generation === 0) damaged('another format');
  const privateKey = privateHalf(record.subarray(AT.seed, AT.publicKey));
  const publicKey = record.slice(AT.publicKey, AT.previous);
  if (!equalBytes(publicHalf(privateKey), publicKey)) damaged('halves of two keys');
  const [previousKey, endorsement] = [record.slice(AT.previous, AT.endorsement), record.slice(AT.endorsement)];
  if (generation === 1) return { privateKey, key: { generation, publicKey, previous: undefined } };
  if (!verifySignature(previousKey, publicKey, endorsement)) damaged('a key that its predecessor did not endorse');
  return { privateKey, key: { generation, publicKey, previous: { publicKey: previousKey, endorsement } } };
}

/** As a JSON Web Key (RFC 8037 §2): OpenSSL takes it in a tenth of the time that it needs for DER. */
function privateHalf(seed: Uint8Array): KeyObject {
  // OpenSSL computes the public half from the private one; Node only wants the field to be there.
  return createPrivateKey({ key: { ...ED25519, d: base64url(seed), x: '' }, format: 'jwk' });
}

function publicHalf(privateKey: KeyObject): Uint8Array {
  const { x } = createPublicKey(privateKey).export({ format: 'jwk' });
  return new Uint8Array(Buffer.from(x as string, 'base64url'));
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64url');
}

function signWith(privateKey: KeyObject, data: Uint8Array): Uint8Array {
  return new Uint8Array(sign(null, data, privateKey));
}

function damaged(got: string): never {
  throw new StateFsError(
    'EINTEGRITY',
    `device key: expected a whole key, got ${got}: restore it, or replace the device`,
  );
}
