import type { Socket } from 'node:net';
import { CodedError, messageOf } from '../../core/index.ts';
import type { Address } from '../listen.ts';
import { broken, ClientHandshake, type ExportInfo } from './client-handshake.ts';
import type { ClientInput } from './client-input.ts';
import {
  BASE_ALLOCATION,
  CHUNK,
  CHUNK_DONE,
  COMMAND,
  INFO,
  OPTION,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
  STRUCTURED_REPLY_MAGIC,
} from './protocol.ts';

export interface NbdClientOptions {
  /** Default the empty name. */
  readonly exportName?: string;
  /** Ask for structured replies. Default true. */
  readonly structured?: boolean;
  /** Select `base:allocation`, which needs structured replies. Default as `structured`. */
  readonly allocation?: boolean;
  /** Ask for the block sizes, and so promise to keep to them. Default true. */
  readonly blockSizes?: boolean;
  /** End the handshake with `NBD_OPT_EXPORT_NAME`, as old clients do. Default false. */
  readonly oldStyle?: boolean;
}

/** An extent of `NBD_CMD_BLOCK_STATUS`. */
export interface Extent {
  readonly lengthBytes: number;
  /** See `NBD_STATE_HOLE` and `NBD_STATE_ZERO`. */
  readonly flags: number;
}

/** An error that the server answered with. */
export class NbdError extends Error {
  /** One of the protocol's error values, such as 5 for NBD_EIO. */
  readonly value: number;

  constructor(value: number, message: string) {
    super(message === '' ? `NBD error ${value}` : `NBD error ${value}: ${message}`);
    this.name = 'NbdError';
    this.value = value;
  }
}

interface Pending {
  readonly type: number;
  readonly offset: number;
  readonly length: number;
  /** For a read: what came. */
  readonly data: Buffer | undefined;
  /** Of a read: pieces that came, to see that none comes twice and none is missing. */
  readonly pieces: [from: number, to: number][];
  /** Content chunks. */
  contentCount: number;
  extents: Extent[] | undefined;
  error: NbdError | undefined;
  resolve(pending: Pending): void;
  reject(error: Error): void;
}

/** No reply of a server has a longer part than this: the longest payload, and room for its header. */
const MAX_CHUNK_BYTES = 2 ** 25 + 64;

/**
 * A client that keeps strictly to the protocol and takes no breach of it: the other side of the server's tests. Requests
 * may overlap; each is answered by a promise.
 */
export class NbdClient {
  readonly info: ExportInfo;
  readonly structured: boolean;
  /** Identifier of `base:allocation`, where it was selected. */
  readonly allocationId: number | undefined;
  readonly #socket: Socket;
  readonly #input: ClientInput;
  readonly #pending = new Map<bigint, Pending>();
  #nextCookie = 1n;
  #failure: Error | undefined;
  readonly #ended: Promise<void>;

  private constructor(
    handshake: ClientHandshake,
    info: ExportInfo,
    structured: boolean,
    allocationId: number | undefined,
  ) {
    this.#socket = handshake.socket;
    this.#input = handshake.input;
    this.info = info;
    this.structured = structured;
    this.allocationId = allocationId;
    this.#ended = this.#receive();
  }

  /** @throws NbdOptionError where the server refuses; CodedError EPROTO, EIO */
  static async connect(address: Address, options: NbdClientOptions = {}): Promise<NbdClient> {
    const { exportName = '', structured = true, allocation = structured, blockSizes = true, oldStyle } = options;
    const handshake = await ClientHandshake.start(address);
    if (structured) await handshake.expect(OPTION.structuredReply);
    const contexts = allocation
      ? await handshake.metaContexts(OPTION.setMetaContext, exportName, [BASE_ALLOCATION])
      : new Map<string, number>();
    const info = oldStyle
      ? await handshake.exportName(exportName)
      : await handshake.info(OPTION.go, exportName, blockSizes ? [INFO.blockSize] : []);
    return new NbdClient(handshake, info, structured, contexts.get(BASE_ALLOCATION));
  }

  async read(offset: number, length: number, flags = 0): Promise<Buffer> {
    const { data } = await this.request(COMMAND.read, offset, length, flags);
    return data as Buffer;
  }

  async write(offset: number, bytes: Uint8Array, flags = 0): Promise<void> {
    await this.request(COMMAND.write, offset, bytes.length, flags, bytes);
  }

  async flush(flags = 0): Promise<void> {
    await this.request(COMMAND.flush, 0, 0, flags);
  }

  async trim(offset: number, length: number, flags = 0): Promise<void> {
    await this.request(COMMAND.trim, offset, length, flags);
  }

  async writeZeroes(offset: number, length: number, flags = 0): Promise<void> {
    await this.request(COMMAND.writeZeroes, offset, length, flags);
  }

  async cache(offset: number, length: number, flags = 0): Promise<void> {
    await this.request(COMMAND.cache, offset, length, flags);
  }

  async blockStatus(offset: number, length: number, flags = 0): Promise<Extent[]> {
    const { extents } = await this.request(COMMAND.blockStatus, offset, length, flags);
    return extents as Extent[];
  }

  /** Sends `NBD_CMD_DISC`, and waits for the server to close. */
  async disconnect(): Promise<void> {
    if (this.#failure === undefined) this.#send(COMMAND.disconnect, 0, 0, 0, 0n, undefined);
    await this.#ended;
  }

  /** Ends the connection without a word. */
  destroy(): void {
    this.#socket.destroy();
  }

  /**
   * Sends any request, also one that the protocol does not have.
   * @param data what follows the header
   * @returns what the server answered
   * @throws NbdError; CodedError EPROTO, EIO where the connection is gone
   */
  request(
    type: number,
    offset: number,
    length: number,
    flags: number,
    data?: Uint8Array,
  ): Promise<{
    readonly data: Buffer | undefined;
    readonly extents: Extent[] | undefined;
    readonly contentCount: number;
  }> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise<Pending>((resolve, reject) => {
      const cookie = this.#nextCookie++ | (0xabcdn << 48n);
      this.#pending.set(cookie, {
        type,
        offset,
        length,
        data: type === COMMAND.read && length <= MAX_CHUNK_BYTES ? Buffer.alloc(length) : undefined,
        pieces: [],
        contentCount: 0,
        extents: undefined,
        error: undefined,
        resolve,
        reject,
      });
      this.#send(type, offset, length, flags, cookie, data);
    });
  }

  #send(
    type: number,
    offset: number,
    length: number,
    flags: number,
    cookie: bigint,
    data: Uint8Array | undefined,
  ): void {
    const header = Buffer.alloc(REQUEST_BYTES);
    header.writeUInt32BE(REQUEST_MAGIC, 0);
    header.writeUInt16BE(flags, 4);
    header.writeUInt16BE(type, 6);
    header.writeBigUInt64BE(cookie, 8);
    header.writeBigUInt64BE(BigInt(offset), 16);
    header.writeUInt32BE(length, 24);
    this.#socket.cork();
    this.#socket.write(header);
    if (data !== undefined) this.#socket.write(data);
    this.#socket.uncork();
  }

  /** Reads replies until the connection ends. Never rejects. */
  async #receive(): Promise<void> {
    try {
      for (;;) await this.#reply();
    } catch (error) {
      this.#failure = error instanceof Error ? error : new CodedError('EIO', messageOf(error));
      for (const pending of this.#pending.values()) pending.reject(this.#failure);
      this.#pending.clear();
      this.#socket.destroy();
    }
  }

  async #reply(): Promise<void> {
    const magic = (await this.#input.take(4)).readUInt32BE(0);
    if (magic === SIMPLE_REPLY_MAGIC) await this.#simpleReply();
    else if (magic === STRUCTURED_REPLY_MAGIC) await this.#chunk();
    else throw broken(`0x${magic.toString(16)} begins no reply`);
  }

  async #simpleReply(): Promise<void> {
    const header = await this.#input.take(12);
    const cookie = header.readBigUInt64BE(4);
    const pending = this.#find(cookie);
    const error = header.readUInt32BE(0);
    if (pending.type === COMMAND.read && this.structured) throw broken('a read was answered by a simple reply');
    if (error !== 0) pending.error = new NbdError(error, '');
    else if (pending.type === COMMAND.read) {
      (await this.#input.take(pending.length)).copy(pending.data as Buffer);
      pending.pieces.push([0, pending.length]);
    }
    this.#finish(cookie, pending);
  }

  async #chunk(): Promise<void> {
    const header = await this.#input.take(16);
    const flags = header.readUInt16BE(0);
    const type = header.readUInt16BE(2);
    const cookie = header.readBigUInt64BE(4);
    const length = header.readUInt32BE(12);
    if (!this.structured) throw broken('a structured reply that nobody asked for');
    if (length > MAX_CHUNK_BYTES) throw broken(`a chunk of ${length} bytes`);
    const pending = this.#find(cookie);
    this.#take(pending, type, await this.#input.take(length));
    if (type === CHUNK.none && (flags & CHUNK_DONE) === 0) throw broken('NBD_REPLY_TYPE_NONE is not the last chunk');
    if ((flags & CHUNK_DONE) !== 0) this.#finish(cookie, pending);
  }

  #take(pending: Pending, type: number, payload: Buffer): void {
    if (type === CHUNK.none) {
      if (payload.length > 0) throw broken('NBD_REPLY_TYPE_NONE with a payload');
    } else if (type === CHUNK.offsetData || type === CHUNK.offsetHole) {
      this.#takeContent(pending, type, payload);
    } else if (type === CHUNK.blockStatus) {
      pending.extents = parseExtents(payload, this.allocationId);
    } else if (type >= 0x8000) {
      const messageBytes = payload.readUInt16BE(4);
      if (messageBytes > payload.length - 6 || payload.readUInt32BE(0) === 0)
        throw broken('an error chunk is no error');
      pending.error = new NbdError(payload.readUInt32BE(0), payload.subarray(6, 6 + messageBytes).toString());
    } else {
      throw broken(`a chunk of type ${type}`);
    }
  }

  #takeContent(pending: Pending, type: number, payload: Buffer): void {
    const isData = type === CHUNK.offsetData;
    if (payload.length < 9 || (!isData && payload.length !== 12)) throw broken('a content chunk of a wrong length');
    const from = Number(payload.readBigUInt64BE(0)) - pending.offset;
    const length = isData ? payload.length - 8 : payload.readUInt32BE(8);
    const to = from + length;
    if (pending.data === undefined || from < 0 || length === 0 || to > pending.length)
      throw broken('a content chunk outside of the request');
    if (pending.pieces.some(([start, end]) => from < end && start < to)) throw broken('content chunks overlap');
    pending.pieces.push([from, to]);
    pending.contentCount++;
    if (isData) payload.copy(pending.data, from, 8);
  }

  #find(cookie: bigint): Pending {
    const pending = this.#pending.get(cookie);
    if (pending === undefined) throw broken(`a reply to 0x${cookie.toString(16)}, which is not pending`);
    return pending;
  }

  #finish(cookie: bigint, pending: Pending): void {
    this.#pending.delete(cookie);
    if (pending.error !== undefined) {
      pending.reject(pending.error);
      return;
    }
    const covered = pending.pieces.reduce((sum, [from, to]) => sum + to - from, 0);
    if (pending.type === COMMAND.read && covered !== pending.length)
      throw broken(`a read of ${pending.length} bytes brought ${covered}`);
    if (pending.type === COMMAND.blockStatus && pending.extents === undefined)
      throw broken('a block status without a status');
    pending.resolve(pending);
  }
}

function parseExtents(payload: Buffer, id: number | undefined): Extent[] {
  if (payload.length < 12 || payload.length % 8 !== 4) throw broken('a block status of a wrong length');
  if (payload.readUInt32BE(0) !== id) throw broken('a block status of a context that was not selected');
  const extents: Extent[] = [];
  for (let at = 4; at < payload.length; at += 8) {
    const lengthBytes = payload.readUInt32BE(at);
    if (lengthBytes === 0) throw broken('an extent of length 0');
    extents.push({ lengthBytes, flags: payload.readUInt32BE(at + 4) });
  }
  return extents;
}
