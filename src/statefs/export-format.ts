/** The bytes of an export, as docs/storage/export.md has them. All numbers are little-endian. */

/** "SFEXPORT". */
export const EXPORT_MAGIC: Uint8Array = Uint8Array.from('SFEXPORT', (letter) => letter.charCodeAt(0));
export const EXPORT_VERSION = 1;

/** Magic, version (16 bits), zeros. */
export const EXPORT_HEADER_BYTES = 16;
export const VERSION_AT = 8;

/** Of an entry: its kind, a zero, and the lengths of what follows it: key (16 bits), envelope (32), payload (32). */
export const ENTRY_HEAD_BYTES = 12;
export const KEY_BYTES_AT = 2;
export const ENVELOPE_BYTES_AT = 4;
export const PAYLOAD_BYTES_AT = 8;
export const ENTRY_RECORD = 1;
export const ENTRY_END = 2;

/** Behind the last entry's head: how many records there were (64 bits), then the SHA-256 of everything before it. */
export const COUNT_BYTES = 8;

/** What an export holds. */
export interface ExportSummary {
  readonly keys: number;
  /** Bytes of all payloads. */
  readonly payloadBytes: number;
  /** Bytes of the export itself. */
  readonly bytes: number;
  /** SHA-256 of the export up to where it stands in it: the same for the same contents. */
  readonly digest: Uint8Array;
}

/** The order of records: by the bytes of their keys in UTF-8. */
export function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}
