import { setU64, viewOf } from '../core/index.ts';
import { createSha256, ENVELOPE_ALGORITHM, ENVELOPE_VERSION, encode } from '../envelope/index.ts';
import { StateFsError } from './errors.ts';
import {
  COUNT_BYTES,
  compareKeys,
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
import { encodeKey } from './keys.ts';
import type { Snapshot } from './snapshot.ts';
import type { StateFs } from './store.ts';

export interface ExportOptions {
  /** Only these keys, in any order. Default: all. */
  readonly keys?: readonly string[];
  /**
   * Is told of a value that does not verify, which is then left out. Default: such a value ends the export with its
   * error.
   */
  readonly onLost?: (key: string, error: StateFsError) => void;
}

/**
 * Everything in a store as one row of bytes, which depends on the keys, values and their metadata alone: not on the order
 * in which they were put, on the disk, or on the store's own numbers. Each value is verified. A piece is valid until the
 * next one is asked for; no more than one value is in memory at a time.
 * @param source what is to be exported over several turns of the event loop is better a snapshot
 * @returns (at the end) what it came to
 * @throws StateFsError EINTEGRITY, EIO
 */
export function* exportStore(
  source: StateFs | Snapshot,
  options: ExportOptions = {},
): Generator<Uint8Array, ExportSummary> {
  const { onLost } = options;
  const sha = createSha256();
  let bytes = 0;
  const counted = (piece: Uint8Array): Uint8Array => {
    sha.update(piece);
    bytes += piece.length;
    return piece;
  };
  const header = new Uint8Array(EXPORT_HEADER_BYTES);
  header.set(EXPORT_MAGIC);
  viewOf(header).setUint16(VERSION_AT, EXPORT_VERSION, true);
  yield counted(header);
  let keys = 0;
  let payloadBytes = 0;
  for (const key of [...(options.keys ?? source.list('', Number.MAX_SAFE_INTEGER))].sort(compareKeys)) {
    let head: Uint8Array;
    let payload: Uint8Array;
    try {
      payload = source.get(key);
      head = recordHead(source, key);
    } catch (error) {
      if (onLost === undefined || !(error instanceof StateFsError) || error.code !== 'EINTEGRITY') throw error;
      onLost(key, error);
      continue;
    }
    yield counted(head);
    if (payload.length > 0) yield counted(payload);
    keys++;
    payloadBytes += payload.length;
  }
  const end = new Uint8Array(ENTRY_HEAD_BYTES + COUNT_BYTES);
  end[0] = ENTRY_END;
  setU64(viewOf(end), ENTRY_HEAD_BYTES, keys);
  yield counted(end);
  const digest = sha.digest();
  yield digest;
  return { keys, payloadBytes, bytes: bytes + digest.length, digest };
}

/** The head of a record, its key and its envelope. */
function recordHead(source: StateFs | Snapshot, key: string): Uint8Array {
  const { payloadBytes, digest, meta } = source.stat(key);
  const envelope = encode({
    version: ENVELOPE_VERSION,
    algorithm: ENVELOPE_ALGORITHM,
    digest,
    payloadBytes,
    meta,
  });
  const keyBytes = encodeKey(key);
  const head = new Uint8Array(ENTRY_HEAD_BYTES + keyBytes.length + envelope.length);
  const view = viewOf(head);
  head[0] = ENTRY_RECORD;
  view.setUint16(KEY_BYTES_AT, keyBytes.length, true);
  view.setUint32(ENVELOPE_BYTES_AT, envelope.length, true);
  view.setUint32(PAYLOAD_BYTES_AT, payloadBytes, true);
  head.set(keyBytes, ENTRY_HEAD_BYTES);
  head.set(envelope, ENTRY_HEAD_BYTES + keyBytes.length);
  return head;
}
