import { equalBytes, getU64, viewOf } from '../core/index.ts';
import { createSha256, decode, type Envelope, MAX_ENVELOPE_BYTES, SHA256_BYTES, sha256 } from '../envelope/index.ts';
import { fail, wrapDeviceError } from './errors.ts';
import {
  COUNT_BYTES,
  ENTRY_END,
  ENTRY_HEAD_BYTES,
  ENTRY_RECORD,
  ENVELOPE_BYTES_AT,
  EXPORT_HEADER_BYTES,
  EXPORT_MAGIC,
  EXPORT_VERSION,
  type ExportSummary,
  KEY_BYTES_AT,
  PAYLOAD_BYTES_AT,
  VERSION_AT,
} from './export-format.ts';
import { decodeKey } from './keys.ts';
import { MAX_KEY_BYTES, MAX_PAYLOAD_BYTES } from './layout.ts';

/** A record of an export, verified. */
export interface ExportedRecord {
  readonly key: string;
  readonly envelope: Envelope;
  /** The caller's. */
  readonly payload: Uint8Array;
}

/**
 * Reads an export piece by piece. Exactly the bytes that an export of the same contents has are accepted. Lengths are
 * capped before anything is kept, and memory grows only with what has really come.
 * @param chunks read as needed, and not kept
 * @returns (at the end) what it came to: only then is it known that nothing is missing
 * @throws StateFsError EINVAL for what is no export, EPROTO for a newer one, EINTEGRITY for a damaged one
 */
export function* readExport(chunks: Iterable<Uint8Array>): Generator<ExportedRecord, ExportSummary> {
  const input = new Input(chunks);
  checkHeader(input.take(EXPORT_HEADER_BYTES, 'its header'));
  let last: Uint8Array | undefined;
  let keys = 0;
  let payloadBytes = 0;
  for (;;) {
    const at = input.bytes;
    const head = input.take(ENTRY_HEAD_BYTES, 'the head of an entry');
    const lengths = checkHead(head, at);
    if (lengths === undefined) break;
    const keyBytes = input.take(lengths.key, 'a key');
    const key = decodeKey(keyBytes) ?? damaged(at, 'its key is none that a store would take');
    if (last !== undefined && Buffer.compare(last, keyBytes) >= 0)
      damaged(at, `${key} does not come after the key before`);
    last = keyBytes;
    const envelope = envelopeOf(input.take(lengths.envelope, 'an envelope'), key, at);
    const payload = input.take(lengths.payload, 'a payload');
    if (envelope.payloadBytes !== payload.length || !equalBytes(sha256(payload), envelope.digest)) {
      damaged(at, `the payload of ${key} does not match its envelope`);
    }
    keys++;
    payloadBytes += payload.length;
    yield { key, envelope, payload };
  }
  const count = getU64(viewOf(input.take(COUNT_BYTES, 'the number of records')), 0);
  if (count !== keys) damaged(input.bytes, `expected ${count} records, got ${keys}`);
  const digest = input.digest();
  if (!equalBytes(input.take(SHA256_BYTES, 'its SHA-256'), digest)) damaged(input.bytes, 'its SHA-256 does not match');
  if (!input.isAtEnd()) damaged(input.bytes, 'something follows behind its end');
  return { keys, payloadBytes, bytes: input.bytes, digest };
}

function checkHeader(header: Uint8Array): void {
  if (!equalBytes(header.subarray(0, EXPORT_MAGIC.length), EXPORT_MAGIC)) {
    fail('EINVAL', 'this is no export of a store: it does not begin with SFEXPORT');
  }
  const version = viewOf(header).getUint16(VERSION_AT, true);
  if (version !== EXPORT_VERSION) {
    fail('EPROTO', `export: expected version ${EXPORT_VERSION}, got ${version}: use a newer powercut`);
  }
  if (header.subarray(VERSION_AT + 2).some((byte) => byte !== 0)) damaged(VERSION_AT + 2, 'its header is not all zero');
}

/** @returns the lengths of what follows; undefined at the end */
function checkHead(head: Uint8Array, at: number): { key: number; envelope: number; payload: number } | undefined {
  const view = viewOf(head);
  const key = view.getUint16(KEY_BYTES_AT, true);
  const envelope = view.getUint32(ENVELOPE_BYTES_AT, true);
  const payload = view.getUint32(PAYLOAD_BYTES_AT, true);
  const [kind, zero] = head;
  if (zero !== 0) damaged(at, 'the head of its entry is not all zero');
  if (kind === ENTRY_END && key === 0 && envelope === 0 && payload === 0) return undefined;
  if (kind !== ENTRY_RECORD) damaged(at, `an entry of kind ${kind}`);
  if (key > MAX_KEY_BYTES || envelope > MAX_ENVELOPE_BYTES || payload > MAX_PAYLOAD_BYTES) {
    damaged(at, `no record has ${key} bytes of key, ${envelope} of envelope and ${payload} of payload`);
  }
  return { key, envelope, payload };
}

function envelopeOf(bytes: Uint8Array, key: string, at: number): Envelope {
  try {
    return decode(bytes);
  } catch (error) {
    return damaged(at, `the envelope of ${key}: ${(error as Error).message}`);
  }
}

function damaged(at: number, what: string): never {
  return fail('EINTEGRITY', `the export is damaged at byte ${at}: ${what}: export the store again`);
}

/** Bytes in order, from pieces of any size. */
class Input {
  /** Taken so far. */
  bytes = 0;
  readonly #chunks: Iterator<Uint8Array>;
  readonly #sha = createSha256();
  #chunk: Uint8Array = new Uint8Array(0);
  #offset = 0;
  #isHashing = true;

  constructor(chunks: Iterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.iterator]();
  }

  /** The next `count` bytes, a new array. */
  take(count: number, what: string): Uint8Array {
    const pieces: Uint8Array[] = [];
    let missing = count;
    while (missing > 0) {
      if (!this.#fill()) damaged(this.bytes + count - missing, `it ends within ${what}`);
      const piece = this.#chunk.slice(this.#offset, this.#offset + missing);
      this.#offset += piece.length;
      missing -= piece.length;
      pieces.push(piece);
    }
    const taken = pieces.length === 1 ? (pieces[0] as Uint8Array) : joined(pieces, count);
    this.bytes += count;
    if (this.#isHashing) this.#sha.update(taken);
    return taken;
  }

  /** SHA-256 of all that was taken; what is taken from now on is not counted. */
  digest(): Uint8Array {
    this.#isHashing = false;
    return this.#sha.digest();
  }

  isAtEnd(): boolean {
    return !this.#fill();
  }

  /** Makes at least one byte available. @returns whether there is one */
  #fill(): boolean {
    while (this.#offset === this.#chunk.length) {
      let next: IteratorResult<Uint8Array>;
      try {
        next = this.#chunks.next();
      } catch (error) {
        throw wrapDeviceError(error, 'import');
      }
      if (next.done === true) return false;
      this.#chunk = next.value;
      this.#offset = 0;
    }
    return true;
  }
}

function joined(pieces: readonly Uint8Array[], byteCount: number): Uint8Array {
  const all = new Uint8Array(byteCount);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}
