import { Collector } from './collector.ts';
import { blockSizes, exportBytes, type NbdExport, transmissionFlags } from './export.ts';
import { OptionError, parseInfoRequest, parseMetaContextRequest, parseName } from './option-data.ts';
import {
  ALLOCATION_ID,
  BASE_ALLOCATION,
  HANDSHAKE,
  IHAVEOPT,
  INFO,
  MAX_STRING_BYTES,
  NBDMAGIC,
  OPTION,
  OPTION_BYTES,
  OPTION_REPLY_MAGIC,
  REPLY,
} from './protocol.ts';

/** What client and server have agreed on when transmission begins. */
export interface Agreement {
  readonly structured: boolean;
  /** The client selected `base:allocation`. */
  readonly allocation: boolean;
  /** The client asked for the block sizes, so it keeps to them; one that did not may send requests of any alignment. */
  readonly aligned: boolean;
}

/** How a handshake ended: with an agreement, or with the connection, for a reason or because the client wished so. */
export type HandshakeEnd = { readonly agreement: Agreement } | { readonly close: string | undefined };

/** Longest data of an option that is read; those of longer ones are skipped and refused. Room for some queries. */
const MAX_OPTION_BYTES = 4 * MAX_STRING_BYTES;
/** A client that haggles longer than this wants something else. */
const MAX_OPTIONS = 256;
/** Zeros that `NBD_OPT_EXPORT_NAME` ends with where the client did not decline them. */
const RESERVED_BYTES = 124;

/**
 * The server's side of the fixed newstyle handshake: bytes in, replies out, and in the end an agreement. Nothing is
 * allocated for what a client announces, only for what it sends, and that is bounded.
 */
export class Handshake {
  readonly #exported: NbdExport;
  readonly #send: (reply: Uint8Array) => void;
  readonly #collector = new Collector(MAX_OPTION_BYTES);
  #step: 'client flags' | 'option' | 'data' | 'skip' = 'client flags';
  #noZeroes = false;
  #option = 0;
  /** Of the current option's data. */
  #length = 0;
  #skipped = 0;
  #optionCount = 0;
  #structured = false;
  /** The export that `base:allocation` was selected for. */
  #allocationOf: string | undefined;
  #end: HandshakeEnd | undefined;

  constructor(exported: NbdExport, send: (reply: Uint8Array) => void) {
    this.#exported = exported;
    this.#send = send;
  }

  /** How it ended; undefined while it goes on. */
  get end(): HandshakeEnd | undefined {
    return this.#end;
  }

  /** The server speaks first. */
  start(): void {
    const greeting = new DataView(new ArrayBuffer(18));
    for (const [i, word] of [...NBDMAGIC, ...IHAVEOPT].entries()) greeting.setUint32(i * 4, word);
    greeting.setUint16(16, HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes);
    this.#send(new Uint8Array(greeting.buffer));
  }

  /** Takes bytes until they are used up or the handshake has ended. @returns where it stopped */
  consume(chunk: Uint8Array, at: number): number {
    while (this.#end === undefined && at < chunk.length) {
      if (this.#step === 'skip') {
        const count = Math.min(this.#length - this.#skipped, chunk.length - at);
        this.#skipped += count;
        at += count;
      } else {
        at += this.#collector.take(chunk, at, this.#needed);
      }
      while (this.#end === undefined && this.#isComplete) this.#advance();
    }
    return at;
  }

  get #needed(): number {
    if (this.#step === 'client flags') return 4;
    return this.#step === 'option' ? OPTION_BYTES : this.#length;
  }

  get #isComplete(): boolean {
    return this.#step === 'skip' ? this.#skipped === this.#length : this.#collector.length === this.#needed;
  }

  #advance(): void {
    const step = this.#step;
    if (step === 'client flags') this.#clientFlags(this.#collector.view.getUint32(0));
    else if (step === 'option') this.#optionHeader(this.#collector.view);
    else {
      this.#step = 'option';
      if (step === 'skip') this.#reply(REPLY.errTooBig, text(`at most ${MAX_OPTION_BYTES} bytes of data are read`));
      else this.#optionData(this.#collector.bytes.subarray(0, this.#length));
    }
    this.#collector.clear();
  }

  /** "Client flags": the server must drop a client that sets one that it does not know. */
  #clientFlags(flags: number): void {
    if ((flags & ~(HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes)) !== 0) {
      this.#end = { close: `unknown client flags 0x${flags.toString(16)}` };
      return;
    }
    this.#noZeroes = (flags & HANDSHAKE.noZeroes) !== 0;
    this.#step = 'option';
  }

  #optionHeader(header: DataView): void {
    if (header.getUint32(0) !== IHAVEOPT[0] || header.getUint32(4) !== IHAVEOPT[1]) {
      this.#end = { close: 'what came is no option' };
      return;
    }
    if (++this.#optionCount > MAX_OPTIONS) {
      this.#end = { close: `more than ${MAX_OPTIONS} options` };
      return;
    }
    this.#option = header.getUint32(8);
    this.#length = header.getUint32(12);
    this.#skipped = 0;
    this.#step = this.#length > MAX_OPTION_BYTES ? 'skip' : 'data';
  }

  #optionData(data: Uint8Array): void {
    try {
      this.#answer(data);
    } catch (error) {
      if (!(error instanceof OptionError)) throw error;
      if (this.#option === OPTION.exportName) this.#end = { close: error.message };
      else this.#reply(REPLY.errInvalid, text(error.message));
    }
  }

  #answer(data: Uint8Array): void {
    switch (this.#option) {
      case OPTION.exportName:
        this.#exportName(parseName(data));
        return;
      case OPTION.abort:
        this.#reply(REPLY.ack);
        this.#end = { close: undefined };
        return;
      case OPTION.list:
        expectNoData(data);
        this.#reply(REPLY.server, sized(text(this.#exported.name)), text(this.#exported.description));
        this.#reply(REPLY.ack);
        return;
      case OPTION.structuredReply:
        expectNoData(data);
        this.#structured = true;
        this.#reply(REPLY.ack);
        return;
      case OPTION.info:
      case OPTION.go:
        this.#info(data);
        return;
      case OPTION.listMetaContext:
      case OPTION.setMetaContext:
        this.#metaContext(data);
        return;
      default:
        this.#reply(REPLY.errUnsup, text('this server has no such option'));
        return;
    }
  }

  /** It has no way to say no but to end the session. */
  #exportName(name: string): void {
    if (!this.#isKnown(name)) {
      this.#end = { close: 'there is no such export' };
      return;
    }
    if (this.#exported.disk.power !== 'on') {
      this.#end = { close: 'the disk has no power' };
      return;
    }
    const answer = new DataView(new ArrayBuffer(this.#noZeroes ? 10 : 10 + RESERVED_BYTES));
    setU64(answer, 0, exportBytes(this.#exported));
    answer.setUint16(8, transmissionFlags(this.#exported, this.#structured));
    this.#send(new Uint8Array(answer.buffer));
    this.#agree(name, false);
  }

  #info(data: Uint8Array): void {
    const { name, types } = parseInfoRequest(data);
    const isGo = this.#option === OPTION.go;
    if (!this.#isKnown(name)) {
      this.#reply(REPLY.errUnknown, text('there is no such export'));
      return;
    }
    if (this.#exported.disk.power !== 'on') {
      this.#reply(REPLY.errShutdown, text('the disk has no power: connect again when it is back'));
      return;
    }
    const size = new DataView(new ArrayBuffer(10));
    setU64(size, 0, exportBytes(this.#exported));
    size.setUint16(8, transmissionFlags(this.#exported, this.#structured));
    this.#reply(REPLY.info, u16(INFO.export), new Uint8Array(size.buffer));
    if (types.includes(INFO.name)) this.#reply(REPLY.info, u16(INFO.name), text(this.#exported.name));
    if (types.includes(INFO.description))
      this.#reply(REPLY.info, u16(INFO.description), text(this.#exported.description));
    // Sent unasked, too: a client that understands it is better off.
    this.#reply(REPLY.info, u16(INFO.blockSize), ...blockSizes(this.#exported).map(u32));
    this.#reply(REPLY.ack);
    if (isGo) this.#agree(name, types.includes(INFO.blockSize));
  }

  /** `NBD_OPT_LIST_META_CONTEXT` knows the wildcards "nothing" and `base:`, `NBD_OPT_SET_META_CONTEXT` does not. */
  #metaContext(data: Uint8Array): void {
    const isSet = this.#option === OPTION.setMetaContext;
    // Setting anew forgets what was set, even where it fails.
    if (isSet) this.#allocationOf = undefined;
    if (!this.#structured) throw new OptionError('structured replies come first');
    const { name, queries } = parseMetaContextRequest(data);
    if (!this.#isKnown(name)) {
      this.#reply(REPLY.errUnknown, text('there is no such export'));
      return;
    }
    const isWildcard = !isSet && (queries.length === 0 || queries.includes('base:'));
    if (isWildcard || queries.includes(BASE_ALLOCATION)) {
      this.#reply(REPLY.metaContext, u32(isSet ? ALLOCATION_ID : 0), text(BASE_ALLOCATION));
      if (isSet) this.#allocationOf = name;
    }
    this.#reply(REPLY.ack);
  }

  #agree(name: string, aligned: boolean): void {
    const allocation = this.#allocationOf === name;
    this.#end = { agreement: { structured: this.#structured, allocation, aligned } };
  }

  #isKnown(name: string): boolean {
    return name === '' || name === this.#exported.name;
  }

  #reply(type: number, ...parts: readonly Uint8Array[]): void {
    const length = parts.reduce((sum, part) => sum + part.length, 0);
    const reply = new Uint8Array(20 + length);
    const view = new DataView(reply.buffer);
    for (const [i, word] of [...OPTION_REPLY_MAGIC, this.#option, type, length].entries()) view.setUint32(i * 4, word);
    let at = 20;
    for (const part of parts) {
      reply.set(part, at);
      at += part.length;
    }
    this.#send(reply);
  }
}

function expectNoData(data: Uint8Array): void {
  if (data.length > 0) throw new OptionError(`this option has no data, got ${data.length} bytes`);
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value);
}

/** With its length before it. */
function sized(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([u32(bytes.length), bytes]);
}

function u16(value: number): Uint8Array {
  return Uint8Array.of(value >>> 8, value);
}

function u32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 2 ** 32));
  view.setUint32(at + 4, value % 2 ** 32);
}
