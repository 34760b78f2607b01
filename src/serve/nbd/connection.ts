import type { Socket } from 'node:net';
import { type Clock, messageOf, type Timers } from '../../core/index.ts';
import type { NbdExport } from './export.ts';
import { Handshake } from './handshake.ts';
import { readIntoOneBuffer } from './socket-input.ts';
import type { NbdStatistics } from './statistics.ts';
import { type Peer, Transmission } from './transmission.ts';

/** How long a client may take. */
export interface NbdPatience {
  /** Milliseconds for the whole handshake. */
  readonly handshakeMs: number;
  /** Milliseconds without progress in the midst of a request: neither the rest of it comes, nor is the reply read. */
  readonly stallMs: number;
}

/** What a connection gets from its server. */
export interface ConnectionContext {
  readonly exported: NbdExport;
  readonly statistics: NbdStatistics;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly patience: NbdPatience;
  /** Is told, in words, of a client that was dropped for what it did, and of defects. */
  readonly onEvent: (message: string) => void;
  readonly onClose: (connection: NbdConnection) => void;
}

/** Replies of a handshake that a client leaves unread before it is dropped. */
const MAX_UNREAD_BYTES = 1024 * 1024;

/** One client: its socket, first with a {@link Handshake}, then with a {@link Transmission}. */
export class NbdConnection implements Peer {
  readonly #socket: Socket;
  readonly #context: ConnectionContext;
  readonly #handshake: Handshake;
  #transmission: Transmission | undefined;
  /** On the monotonic clock; undefined while the client may take its time. */
  #deadlineMs: number | undefined;
  #closed = false;

  /** @param accepted a server's, paused: not to be used by anybody else from now on */
  constructor(accepted: Socket, context: ConnectionContext) {
    const socket = readIntoOneBuffer(accepted, (bytes) => this.#receive(bytes));
    this.#socket = socket;
    this.#context = context;
    this.#handshake = new Handshake(context.exported, (reply) => this.#socket.write(reply));
    this.#deadlineMs = context.clock.monotonicMs() + context.patience.handshakeMs;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 60_000);
    // The other side vanished: that is its right.
    socket.on('error', () => undefined);
    socket.on('close', () => this.#onClose());
    this.#handshake.start();
  }

  write(bytes: Uint8Array, done: () => void): void {
    this.#socket.write(bytes, done);
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    this.#socket.end();
    this.#deadlineMs = this.#context.clock.monotonicMs() + this.#context.patience.stallMs;
  }

  drop(reason: string | undefined): void {
    if (reason !== undefined && !this.#closed) {
      this.#context.statistics.clientsDropped++;
      this.#context.onEvent(`a client was dropped: ${reason}`);
    }
    this.#socket.destroy();
    this.#onClose();
  }

  awaits(something: boolean): void {
    this.#deadlineMs = something ? this.#context.clock.monotonicMs() + this.#context.patience.stallMs : undefined;
  }

  /** Drops a client that has been awaited for too long. */
  checkPatience(nowMs: number): void {
    if (this.#deadlineMs !== undefined && nowMs > this.#deadlineMs) this.drop('it took too long');
  }

  #receive(chunk: Uint8Array): void {
    try {
      if (this.#transmission !== undefined) this.#transmission.receive(chunk, 0);
      else this.#haggle(chunk);
    } catch (error) {
      // Nothing that a client sends gets here: the others go on.
      this.#context.onEvent(`powercut defect, a connection is closed: ${messageOf(error)}`);
      this.drop(undefined);
    }
  }

  #haggle(chunk: Uint8Array): void {
    const at = this.#handshake.consume(chunk, 0);
    const { end } = this.#handshake;
    if (end === undefined) {
      if (this.#socket.writableLength > MAX_UNREAD_BYTES) this.drop('it does not read its replies');
      return;
    }
    if ('close' in end) {
      if (end.close !== undefined) this.#context.onEvent(`a handshake failed: ${end.close}`);
      this.end();
      return;
    }
    this.#deadlineMs = undefined;
    const { exported, timers, statistics } = this.#context;
    this.#transmission = new Transmission(exported, end.agreement, this, timers, statistics);
    this.#transmission.receive(chunk, at);
  }

  #onClose(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#deadlineMs = undefined;
    this.#transmission?.close();
    this.#context.onClose(this);
  }
}
