import { type Cancel, codeOf, messageOf, type Timers } from '../../core/index.ts';
import { ByteAccess } from '../disk/byte-access.ts';
import { BLOCK_STATUS_BYTES, putBlockStatus } from './block-status.ts';
import { Collector } from './collector.ts';
import type { NbdExport } from './export.ts';
import type { Agreement } from './handshake.ts';
import { HeldRequests } from './held-requests.ts';
import {
  CHUNK,
  CHUNK_BYTES,
  CHUNK_DONE,
  COMMAND,
  ERROR,
  FLAG,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_REPLY_BYTES,
} from './protocol.ts';
import { MAX_HEADER_BYTES, putChunk, putDataChunk, putErrorChunk, putHoleChunk, putSimpleReply } from './replies.ts';
import { type ReplyBuffer, ReplyStream, type Sink } from './reply-stream.ts';
import { Request, validate } from './request.ts';
import type { NbdStatistics } from './statistics.ts';

/** What a transmission needs of its connection. */
export interface Peer extends Sink {
  /** Stop, and go on, to hand over what comes in. */
  pause(): void;
  resume(): void;
  /** Close, once everything that was written has gone. */
  end(): void;
  /** Close at once. @param reason what the client did, or undefined where it is not its fault */
  drop(reason: string | undefined): void;
  /** Whether something of the client is awaited now: the rest of a request, or that it reads. */
  awaits(something: boolean): void;
}

/** Reads up to this are one piece; longer ones are sent as the client takes them. */
const PIECE_BYTES = 128 * 1024;
/** Writes up to this reach the disk as one operation, and longer ones as they come in. */
const GATHER_BYTES = 256 * 1024;
/** Zeroed or discarded at once: other connections get their turn in between. */
const ZERO_PIECE_BYTES = 4 * 1024 * 1024;
/** Bytes that a connection moves before the others get their turn. */
const TURN_BYTES = 1024 * 1024;
/** What a request without data counts in a turn. */
const REQUEST_COST_BYTES = 512;

const ZEROS: Uint8Array = new Uint8Array(PIECE_BYTES);

/** What the request in hand waits for, or does. */
type Work = 'none' | 'reply' | 'read' | 'gather' | 'stream' | 'drain' | 'zero' | 'status';

/**
 * The server's side of the transmission phase. One request is in hand at a time and is carried out synchronously; what it
 * lacks, input or room for output, it waits for where it is. Only requests that the disk's latency holds back are kept
 * aside. No request makes a promise, a closure or a buffer of its own.
 */
export class Transmission {
  readonly #exported: NbdExport;
  readonly #agreement: Agreement;
  readonly #peer: Peer;
  readonly #timers: Timers;
  readonly #statistics: NbdStatistics;
  readonly #out: ReplyStream;
  readonly #bytes: ByteAccess;
  readonly #header = new Collector(REQUEST_BYTES);
  /** For the payload of a write, or for a part of a sector of a long one. Made when first needed. */
  #gathered: Collector | undefined;
  /** The disk's when this connection began: after a cut it has to be made anew. */
  readonly #generation: number;
  readonly #own = new Request();
  /** The request in hand: {@link #own}, or one that has waited. */
  #request: Request = this.#own;
  #work: Work = 'none';
  #input: Uint8Array | undefined;
  #inputView: DataView | undefined;
  #at = 0;
  readonly #held: HeldRequests;
  #disconnecting = false;
  #ended = false;
  #pumping = false;
  #paused = false;
  #turn: Cancel | undefined;
  #moved = 0;

  constructor(exported: NbdExport, agreement: Agreement, peer: Peer, timers: Timers, statistics: NbdStatistics) {
    this.#exported = exported;
    this.#agreement = agreement;
    this.#peer = peer;
    this.#timers = timers;
    this.#statistics = statistics;
    this.#generation = exported.disk.generation;
    this.#bytes = new ByteAccess(exported.disk);
    this.#held = new HeldRequests(exported.disk, timers, () => this.#pump());
    this.#out = new ReplyStream(peer, () => this.#pump());
  }

  /** Takes what came in. The peer is paused until all of it is used; the bytes are not kept beyond that. */
  receive(chunk: Uint8Array, at: number): void {
    if (this.#ended || at === chunk.length) return;
    if (this.#input !== undefined) {
      chunk = Buffer.concat([this.#input.subarray(this.#at), chunk.subarray(at)]);
      at = 0;
    }
    this.#input = chunk;
    this.#inputView = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
    this.#at = at;
    this.#pump();
    if (this.#input === undefined || this.#paused) return;
    this.#paused = true;
    this.#peer.pause();
  }

  /** The connection is gone. */
  close(): void {
    this.#ended = true;
    this.#turn?.();
    this.#held.close();
    this.#input = undefined;
  }

  /** Goes on as far as input, room for output and this turn allow. */
  #pump(): void {
    if (this.#pumping || this.#ended) return;
    this.#pumping = true;
    this.#moved = 0;
    while (!this.#ended && this.#step()) {
      if (this.#moved < TURN_BYTES) continue;
      this.#turn ??= this.#timers.soon(() => {
        this.#turn = undefined;
        this.#pump();
      });
      break;
    }
    this.#pumping = false;
    if (this.#ended) return;
    this.#out.flush();
    if (this.#disconnecting && this.#work === 'none' && !this.#held.isPending) {
      this.#ended = true;
      this.#peer.end();
      return;
    }
    if (this.#paused && this.#input === undefined) {
      this.#paused = false;
      this.#peer.resume();
    }
    this.#peer.awaits(this.#isAwaiting);
  }

  /** The rest of a request, or room for a reply that the client does not read. */
  get #isAwaiting(): boolean {
    return this.#turn === undefined && (this.#work !== 'none' || this.#header.length > 0);
  }

  /** @returns false where it can't go on */
  #step(): boolean {
    switch (this.#work) {
      case 'none':
        return this.#next();
      case 'reply':
        return this.#reply();
      case 'read':
        return this.#read();
      case 'gather':
        return this.#gather();
      case 'stream':
        return this.#stream();
      case 'drain':
        return this.#drain();
      case 'zero':
        return this.#zero();
      case 'status':
        return this.#blockStatus();
    }
  }

  /** Takes a request in hand: one that has waited, or the next one that came in. */
  #next(): boolean {
    const due = this.#held.next();
    if (due !== undefined) {
      this.#request = due;
      this.#checkGeneration(due);
      this.#work = due.type === COMMAND.read && due.error === ERROR.none ? 'read' : 'reply';
      if (due.type === COMMAND.flush && due.operation === 0 && due.error === ERROR.none) this.#flush();
      return true;
    }
    if (this.#disconnecting || this.#held.isFull) return false;
    const request = this.#own;
    if (!this.#parseHeader(request)) return false;
    this.#request = request;
    this.#moved += REQUEST_COST_BYTES;
    this.#begin(request);
    return true;
  }

  #parseHeader(request: Request): boolean {
    const input = this.#input;
    if (input === undefined) return false;
    let view = this.#inputView!;
    let at = this.#at;
    if (this.#header.length === 0 && input.length - at >= REQUEST_BYTES) {
      this.#advance(REQUEST_BYTES);
    } else {
      this.#advance(this.#header.take(input, at, REQUEST_BYTES));
      if (this.#header.length < REQUEST_BYTES) return false;
      view = this.#header.view;
      at = 0;
      this.#header.clear();
    }
    if (view.getUint32(at) !== REQUEST_MAGIC) {
      this.#ended = true;
      this.#peer.drop('what came is no request');
      return false;
    }
    request.parse(view, at);
    return true;
  }

  #begin(request: Request): void {
    if (request.type === COMMAND.disconnect) {
      this.#disconnecting = true;
      this.#input = undefined;
      return;
    }
    this.#statistics.requests++;
    if (validate(request, this.#exported, this.#agreement) === ERROR.none) this.#checkGeneration(request);
    if (request.type === COMMAND.write) {
      if (request.error !== ERROR.none) this.#work = request.length === 0 ? 'reply' : 'drain';
      else this.#work = request.length <= GATHER_BYTES ? 'gather' : 'stream';
      return;
    }
    if (request.error !== ERROR.none) this.#work = 'reply';
    else this.#carryOut(request);
  }

  #carryOut(request: Request): void {
    switch (request.type) {
      case COMMAND.read:
        if (!this.#holdBack()) this.#work = 'read';
        return;
      case COMMAND.flush:
        if (this.#held.hangs(request)) {
          this.#work = 'none';
          return;
        }
        this.#flush();
        this.#finish();
        return;
      case COMMAND.trim:
      case COMMAND.writeZeroes:
        this.#work = 'zero';
        return;
      case COMMAND.blockStatus:
        this.#work = 'status';
        return;
      default:
        // NBD_CMD_CACHE: everything is as near as it can be.
        this.#finish();
        return;
    }
  }

  /** After a power cut a client has to connect again: it does not know what was lost. */
  #checkGeneration(request: Request): void {
    if (this.#exported.disk.generation === this.#generation) return;
    request.error = ERROR.shutdown;
    request.message = 'the disk has lost power: connect again';
  }

  #flush(): void {
    try {
      this.#exported.disk.flush();
      this.#request.operation = this.#exported.disk.operation;
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#request.error = errorValue(error);
    this.#request.message = messageOf(error);
  }

  /** The request is done, or has failed: answer it, now or when the disk's latency has passed. */
  #finish(): void {
    this.#work = 'reply';
    if (this.#request.error === ERROR.none) this.#holdBack();
  }

  /** @returns whether the disk holds the request back; then no request is in hand */
  #holdBack(): boolean {
    if (!this.#held.holds(this.#request)) return false;
    this.#work = 'none';
    return true;
  }

  #reply(): boolean {
    const buffer = this.#out.reserve(MAX_HEADER_BYTES);
    if (buffer === undefined) return false;
    const request = this.#request;
    if (this.#agreement.structured && request.error !== ERROR.none) putErrorChunk(buffer, request);
    // "NBD_CMD_READ": an error that is found after a simple reply has begun ends the connection.
    else if (request.error !== ERROR.none && request.type === COMMAND.read && request.done > 0) return this.#giveUp();
    else putSimpleReply(buffer, request);
    this.#close(request);
    return true;
  }

  #giveUp(): boolean {
    this.#ended = true;
    this.#peer.drop(undefined);
    return false;
  }

  /** The reply is on its way. */
  #close(request: Request): void {
    this.#work = 'none';
    const { disk } = this.#exported;
    if (request.error !== ERROR.none) this.#statistics.requestsFailed++;
    else if (disk.observed && request.operation > 0) disk.acknowledge(request.operation);
  }

  #read(): boolean {
    const request = this.#request;
    const isWhole = request.length <= PIECE_BYTES;
    if (isWhole) return this.#readWhole(request);
    return this.#agreement.structured ? this.#readChunk(request) : this.#readOn(request);
  }

  /** One piece: an error is known before anything is sent. */
  #readWhole(request: Request): boolean {
    const headerBytes = this.#agreement.structured ? CHUNK_BYTES + 8 : SIMPLE_REPLY_BYTES;
    const buffer = this.#out.reserve(headerBytes + request.length);
    if (buffer === undefined) return false;
    const data = buffer.length + headerBytes;
    if (!this.#readInto(buffer, data, request.offset, request.length)) {
      this.#work = 'reply';
      return true;
    }
    if (this.#agreement.structured) putDataChunk(buffer, request, CHUNK_DONE, request.offset, request.length);
    else putSimpleReply(buffer, request);
    buffer.length = data + request.length;
    this.#close(request);
    return true;
  }

  /** A long read in chunks, each whole or an error; with `NBD_CMD_FLAG_DF` one chunk, whose rest is zeros after an error. */
  #readChunk(request: Request): boolean {
    const isOne = (request.flags & FLAG.df) !== 0;
    const rest = request.length - request.done;
    if (rest === 0) return this.#endRead(request);
    const count = Math.min(rest, PIECE_BYTES);
    const buffer = this.#out.reserve(CHUNK_BYTES + 8 + count);
    if (buffer === undefined) return false;
    const at = request.offset + request.done;
    if (!isOne && this.#isHole(at, count)) {
      putHoleChunk(buffer, request, 0, at, count);
    } else {
      const hasHeader = !isOne || request.done === 0;
      const data = buffer.length + (hasHeader ? CHUNK_BYTES + 8 : 0);
      const isRead = request.error === ERROR.none && this.#readInto(buffer, data, at, count);
      if (!isRead && (!isOne || request.done === 0)) {
        this.#work = 'reply';
        return true;
      }
      if (!isRead) buffer.bytes.set(ZEROS.subarray(0, count), data);
      if (hasHeader) putDataChunk(buffer, request, 0, at, isOne ? request.length : count);
      buffer.length = data + count;
    }
    request.done += count;
    return true;
  }

  #endRead(request: Request): boolean {
    if (request.error !== ERROR.none) {
      this.#work = 'reply';
      return true;
    }
    const buffer = this.#out.reserve(CHUNK_BYTES);
    if (buffer === undefined) return false;
    putChunk(buffer, request, CHUNK_DONE, CHUNK.none, 0);
    this.#close(request);
    return true;
  }

  /** A long read as a simple reply: its header promises success. */
  #readOn(request: Request): boolean {
    const headerBytes = request.done === 0 ? SIMPLE_REPLY_BYTES : 0;
    const count = Math.min(request.length - request.done, PIECE_BYTES);
    const buffer = this.#out.reserve(headerBytes + count);
    if (buffer === undefined) return false;
    const data = buffer.length + headerBytes;
    if (!this.#readInto(buffer, data, request.offset + request.done, count)) {
      this.#work = 'reply';
      return true;
    }
    if (headerBytes > 0) putSimpleReply(buffer, request);
    buffer.length = data + count;
    request.done += count;
    if (request.done === request.length) this.#close(request);
    return true;
  }

  /** Straight from the disk into the reply. @returns false where it failed */
  #readInto(buffer: ReplyBuffer, at: number, offset: number, count: number): boolean {
    const { disk } = this.#exported;
    const target = buffer.bytes.subarray(at, at + count);
    this.#checkGeneration(this.#request);
    if (this.#request.error !== ERROR.none) return false;
    try {
      if (this.#bytes.isAligned(offset, count)) disk.read(offset / disk.sectorBytes, target);
      else this.#bytes.read(offset, target);
    } catch (error) {
      this.#fail(error);
      return false;
    }
    this.#statistics.bytesRead += count;
    this.#moved += count;
    return true;
  }

  #isHole(offset: number, count: number): boolean {
    const { disk } = this.#exported;
    if (this.#request.error !== ERROR.none || disk.generation !== this.#generation) return false;
    if (!disk.zeroesFast || !this.#bytes.isAligned(offset, count)) return false;
    const sectorCount = count / disk.sectorBytes;
    return disk.power === 'on' && disk.extent(offset / disk.sectorBytes, sectorCount) === -sectorCount;
  }

  /** A write that reaches the disk as one operation, when all of it is here. */
  #gather(): boolean {
    const input = this.#input;
    if (input === undefined) return false;
    const request = this.#request;
    const gathered = this.#gathered;
    let payload: Uint8Array;
    if ((gathered === undefined || gathered.length === 0) && input.length - this.#at >= request.length) {
      payload = input.subarray(this.#at, this.#at + request.length);
      this.#write(request.offset, payload);
      this.#advance(request.length);
    } else {
      const collector = this.#collector();
      this.#advance(collector.take(input, this.#at, request.length));
      if (collector.length < request.length) return false;
      payload = collector.bytes.subarray(0, request.length);
      collector.clear();
      this.#write(request.offset, payload);
    }
    this.#finish();
    return true;
  }

  /** A long write: whole sectors go to the disk as they come, only what is less than one is kept until the rest is here. */
  #stream(): boolean {
    const input = this.#input;
    if (input === undefined) return false;
    const request = this.#request;
    const { sectorBytes } = this.#exported.disk;
    const collector = this.#collector();
    const rest = request.length - request.done;
    const there = Math.min(rest - collector.length, input.length - this.#at);
    const whole = there - (there % sectorBytes);
    if (collector.length === 0 && whole > 0) {
      this.#write(request.offset + request.done, input.subarray(this.#at, this.#at + whole));
      request.done += whole;
      this.#advance(whole);
    } else {
      const needed = Math.min(sectorBytes, rest);
      this.#advance(collector.take(input, this.#at, needed));
      if (collector.length < needed) return false;
      this.#write(request.offset + request.done, collector.bytes.subarray(0, needed));
      request.done += needed;
      collector.clear();
    }
    if (request.done === request.length) this.#finish();
    else if (request.error !== ERROR.none) this.#work = 'drain';
    return true;
  }

  #write(offset: number, payload: Uint8Array): void {
    const { disk } = this.#exported;
    const fua = (this.#request.flags & FLAG.fua) !== 0;
    this.#checkGeneration(this.#request);
    if (this.#request.error !== ERROR.none) return;
    try {
      if (this.#bytes.isAligned(offset, payload.length)) {
        disk.write(offset / disk.sectorBytes, payload, fua ? FUA : undefined);
      } else {
        this.#bytes.write(offset, payload, fua);
      }
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#request.operation = disk.operation;
    this.#statistics.bytesWritten += payload.length;
    this.#moved += payload.length;
  }

  /** Takes the payload of a write that is refused, and throws it away. */
  #drain(): boolean {
    const input = this.#input;
    if (input === undefined) return false;
    const request = this.#request;
    const count = Math.min(request.length - request.done, input.length - this.#at);
    request.done += count;
    this.#moved += count;
    this.#advance(count);
    if (request.done < request.length) return false;
    this.#work = 'reply';
    return true;
  }

  /** The next piece of `NBD_CMD_TRIM` or `NBD_CMD_WRITE_ZEROES`. */
  #zero(): boolean {
    const request = this.#request;
    const isFirstUneven = request.done === 0 ? request.offset % ZERO_PIECE_BYTES : 0;
    const mustOccupy = (request.flags & FLAG.noHole) !== 0;
    const most = mustOccupy ? PIECE_BYTES : ZERO_PIECE_BYTES - isFirstUneven;
    const count = Math.min(request.length - request.done, most);
    this.#checkGeneration(request);
    if (request.error === ERROR.none) this.#zeroPiece(request, count, mustOccupy);
    request.done += count;
    this.#moved += Math.max(REQUEST_COST_BYTES, count / 4);
    if (request.error === ERROR.none && request.done < request.length) return true;
    if (request.error === ERROR.none && (request.flags & FLAG.fua) !== 0) this.#flush();
    this.#finish();
    return true;
  }

  #zeroPiece(request: Request, count: number, mustOccupy: boolean): void {
    const offset = request.offset + request.done;
    try {
      if (request.type === COMMAND.trim) this.#bytes.discard(offset, count);
      else if (mustOccupy) this.#bytes.write(offset, ZEROS.subarray(0, count), false);
      else this.#bytes.writeZeroes(offset, count, true);
      request.operation = this.#exported.disk.operation;
    } catch (error) {
      this.#fail(error);
    }
  }

  #blockStatus(): boolean {
    const buffer = this.#out.reserve(BLOCK_STATUS_BYTES);
    if (buffer === undefined) return false;
    const request = this.#request;
    const start = buffer.length;
    try {
      putBlockStatus(buffer, request, this.#exported.disk);
    } catch (error) {
      buffer.length = start;
      this.#fail(error);
      this.#work = 'reply';
      return true;
    }
    this.#close(request);
    return true;
  }

  #collector(): Collector {
    this.#gathered ??= new Collector(GATHER_BYTES);
    return this.#gathered;
  }

  #advance(count: number): void {
    this.#at += count;
    if (this.#at === this.#input?.length) this.#input = undefined;
  }
}

const FUA = { fua: true } as const;

/** The protocol's number for an error of the disk. */
export function errorValue(error: unknown): number {
  switch (codeOf(error)) {
    case 'EPOWER':
    case 'ECLOSED':
      return ERROR.shutdown;
    case 'EROFS':
    case 'EPERM':
      return ERROR.perm;
    case 'EINVAL':
    case 'ENOTSUP':
      return ERROR.invalid;
    case 'ENOSPC':
      return ERROR.noSpace;
    default:
      return ERROR.io;
  }
}
