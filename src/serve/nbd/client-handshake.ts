import { connect, type Socket } from 'node:net';
import { CodedError } from '../../core/index.ts';
import type { Address } from '../listen.ts';
import { ClientInput } from './client-input.ts';
import { HANDSHAKE, IHAVEOPT, INFO, NBDMAGIC, OPTION, OPTION_REPLY_MAGIC, REPLY } from './protocol.ts';

/** A reply to an option. */
export interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

/** What a server says of an export. */
export interface ExportInfo {
  readonly sizeBytes: number;
  readonly transmissionFlags: number;
  /** Minimum, preferred and maximum, where the server told. */
  readonly blockSizes: readonly number[] | undefined;
}

/** No option has more data, nor a reply to one, than a client of ours cares for. */
const MAX_REPLY_BYTES = 1024 * 1024;

/** An option that the server refused, with its reply. */
export class NbdOptionError extends Error {
  readonly type: number;

  constructor(option: number, reply: OptionReply) {
    super(`the server refused option ${option}: ${reply.data.toString() || `reply 0x${reply.type.toString(16)}`}`);
    this.name = 'NbdOptionError';
    this.type = reply.type;
  }
}

/** The client's side of the handshake, option by option. */
export class ClientHandshake {
  readonly socket: Socket;
  readonly input: ClientInput;
  readonly #noZeroes: boolean;

  private constructor(socket: Socket, input: ClientInput, noZeroes: boolean) {
    this.socket = socket;
    this.input = input;
    this.#noZeroes = noZeroes;
  }

  /**
   * Connects, checks the greeting and answers it.
   * @param clientFlags default: fixed newstyle, no zeroes
   */
  static async start(
    address: Address,
    clientFlags: number = HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes,
  ): Promise<ClientHandshake> {
    const socket = connect('path' in address ? { path: address.path } : { host: address.host, port: address.port });
    socket.setNoDelay(true);
    const input = new ClientInput(socket);
    const greeting = await input.take(18);
    const words = [0, 4, 8, 12].map((at) => greeting.readUInt32BE(at));
    if (words.some((word, i) => word !== [...NBDMAGIC, ...IHAVEOPT][i])) throw broken('this is no newstyle greeting');
    if ((greeting.readUInt16BE(16) & HANDSHAKE.fixedNewstyle) === 0) throw broken('expected fixed newstyle');
    const flags = Buffer.alloc(4);
    flags.writeUInt32BE(clientFlags);
    socket.write(flags);
    return new ClientHandshake(socket, input, (clientFlags & HANDSHAKE.noZeroes) !== 0);
  }

  /** Sends an option. @returns all its replies; the last is an acknowledgement or an error */
  async option(option: number, data: Uint8Array = new Uint8Array(0)): Promise<OptionReply[]> {
    this.#send(option, data);
    const replies: OptionReply[] = [];
    for (;;) {
      const header = await this.input.take(20);
      if (header.readUInt32BE(0) !== OPTION_REPLY_MAGIC[0] || header.readUInt32BE(4) !== OPTION_REPLY_MAGIC[1])
        throw broken('what came is no reply to an option');
      if (header.readUInt32BE(8) !== option) throw broken('the reply is to another option');
      const type = header.readUInt32BE(12);
      const length = header.readUInt32BE(16);
      if (length > MAX_REPLY_BYTES) throw broken('a reply to an option is too long');
      replies.push({ type, data: await this.input.take(length) });
      if (type === REPLY.ack || type >= 0x8000_0000) return replies;
    }
  }

  /** {@link option}, where an error is thrown. @returns the replies before the acknowledgement */
  async expect(option: number, data?: Uint8Array): Promise<OptionReply[]> {
    const replies = await this.option(option, data);
    const last = replies.pop() as OptionReply;
    if (last.type !== REPLY.ack) throw new NbdOptionError(option, last);
    return replies;
  }

  /** Names of the exports. */
  async list(): Promise<string[]> {
    const replies = await this.expect(OPTION.list);
    return replies.map(({ data }) => data.subarray(4, 4 + data.readUInt32BE(0)).toString());
  }

  /** `NBD_OPT_INFO`, or `NBD_OPT_GO` which begins the transmission. */
  async info(option: number, name: string, types: readonly number[]): Promise<ExportInfo> {
    const replies = await this.expect(option, infoData(name, types));
    let info: Pick<ExportInfo, 'sizeBytes' | 'transmissionFlags'> | undefined;
    let blockSizes: readonly number[] | undefined;
    for (const { type, data } of replies) {
      if (type !== REPLY.info || data.length < 2) throw broken('expected NBD_REP_INFO');
      const kind = data.readUInt16BE(0);
      if (kind === INFO.export) info = exportInfo(data.subarray(2));
      if (kind === INFO.blockSize) blockSizes = [2, 6, 10].map((at) => data.readUInt32BE(at));
    }
    if (info === undefined) throw broken('expected NBD_INFO_EXPORT');
    return { ...info, blockSizes };
  }

  /** `NBD_OPT_EXPORT_NAME`: begins the transmission, or the server ends the session. */
  async exportName(name: string): Promise<ExportInfo> {
    this.#send(OPTION.exportName, Buffer.from(name));
    const answer = await this.input.take(this.#noZeroes ? 10 : 134);
    return { ...exportInfo(answer), blockSizes: undefined };
  }

  /** `NBD_OPT_LIST_META_CONTEXT` or `NBD_OPT_SET_META_CONTEXT`. @returns names with identifiers */
  async metaContexts(option: number, name: string, queries: readonly string[]): Promise<Map<string, number>> {
    const replies = await this.expect(option, metaContextData(name, queries));
    return new Map(replies.map(({ data }) => [data.subarray(4).toString(), data.readUInt32BE(0)]));
  }

  #send(option: number, data: Uint8Array): void {
    const header = Buffer.alloc(16);
    header.writeUInt32BE(IHAVEOPT[0], 0);
    header.writeUInt32BE(IHAVEOPT[1], 4);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(data.length, 12);
    this.socket.write(Buffer.concat([header, data]));
  }
}

/** The data of `NBD_OPT_INFO` and `NBD_OPT_GO`. */
export function infoData(name: string, types: readonly number[]): Buffer {
  const text = Buffer.from(name);
  const data = Buffer.alloc(4 + text.length + 2 + 2 * types.length);
  data.writeUInt32BE(text.length, 0);
  text.copy(data, 4);
  data.writeUInt16BE(types.length, 4 + text.length);
  for (const [i, type] of types.entries()) data.writeUInt16BE(type, 6 + text.length + 2 * i);
  return data;
}

/** The data of the options about metadata contexts. */
export function metaContextData(name: string, queries: readonly string[]): Buffer {
  const count = Buffer.alloc(4);
  count.writeUInt32BE(queries.length);
  return Buffer.concat([sized(name), count, ...queries.map(sized)]);
}

/** What a server does that the protocol forbids. */
export function broken(message: string): CodedError {
  return new CodedError('EPROTO', `the server broke the protocol: ${message}`);
}

function exportInfo(data: Buffer): Pick<ExportInfo, 'sizeBytes' | 'transmissionFlags'> {
  const sizeBytes = Number(data.readBigUInt64BE(0));
  const transmissionFlags = data.readUInt16BE(8);
  if ((transmissionFlags & 1) === 0) throw broken('NBD_FLAG_HAS_FLAGS must be set');
  return { sizeBytes, transmissionFlags };
}

function sized(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
