import { MAX_STRING_BYTES } from './protocol.ts';

/** What a client put into an option is not what the protocol says: the text is sent back to it. */
export class OptionError extends Error {}

/** The data of `NBD_OPT_INFO` and `NBD_OPT_GO`. */
export interface InfoRequest {
  readonly name: string;
  /** `NBD_INFO` types asked for. */
  readonly types: readonly number[];
}

/** The data of `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`. */
export interface MetaContextRequest {
  readonly name: string;
  readonly queries: readonly string[];
}

/** @throws OptionError */
export function parseInfoRequest(data: Uint8Array): InfoRequest {
  const reader = new Reader(data);
  const name = reader.string(reader.u32());
  const count = reader.u16();
  const types: number[] = [];
  for (let i = 0; i < count; i++) types.push(reader.u16());
  reader.end();
  return { name, types };
}

/** @throws OptionError */
export function parseMetaContextRequest(data: Uint8Array): MetaContextRequest {
  const reader = new Reader(data);
  const name = reader.string(reader.u32());
  const count = reader.u32();
  const queries: string[] = [];
  for (let i = 0; i < count; i++) queries.push(reader.string(reader.u32()));
  reader.end();
  return { name, queries };
}

/** @throws OptionError for what is no string of the protocol */
export function parseName(data: Uint8Array): string {
  const reader = new Reader(data);
  const name = reader.string(data.length);
  return name;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Reads fields one after the other; every length is checked against what is there before it is used. */
class Reader {
  readonly #data: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(data: Uint8Array) {
    this.#data = data;
    this.#view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  string(lengthBytes: number): string {
    if (lengthBytes > MAX_STRING_BYTES)
      throw new OptionError(`expected a string of at most ${MAX_STRING_BYTES} bytes, got one of ${lengthBytes}`);
    const start = this.#advance(lengthBytes);
    const text = decode(this.#data.subarray(start, start + lengthBytes));
    if (text.includes('\0')) throw new OptionError('expected a string without NUL');
    return text;
  }

  end(): void {
    if (this.#at !== this.#data.length)
      throw new OptionError(`expected ${this.#at} bytes of data, got ${this.#data.length}`);
  }

  #advance(bytes: number): number {
    const start = this.#at;
    if (bytes > this.#data.length - start)
      throw new OptionError(`expected ${bytes} more bytes at ${start}, got ${this.#data.length - start}`);
    this.#at += bytes;
    return start;
  }
}

function decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new OptionError('expected a string in UTF-8');
  }
}
