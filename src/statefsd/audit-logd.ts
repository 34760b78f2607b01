import { createConnection } from 'node:net';
import { assertInteger, assertString, type Cancel, systemTimers, type Timers } from '../core/index.ts';
import type { AuditSink } from './audit.ts';
import type { AuditRecord } from './audit-record.ts';

/** One entry of a log service: a line of JSON with these fields. */
export interface LogdEntry {
  readonly level: 'info' | 'warn' | 'error';
  /** Always `statefsd.audit`. */
  readonly scope: string;
  readonly message: string;
  readonly fields: AuditRecord;
}

/** A connection to the service. Exactly one `onClose` ends it, whether or not it ever opened. */
export interface LogdConnection {
  /** @param onWritten the text has left this process */
  write(text: string, onWritten: () => void): void;
  /** Writes out what was handed over, then closes. */
  end(): void;
  destroy(): void;
}

export type LogdConnector = (path: string, onOpen: () => void, onClose: () => void) => LogdConnection;

export interface AuditLogdOptions {
  /** The service's Unix socket. */
  readonly path: string;
  /** A change whose record can't be handed over, since there is no connection or the queue is full, is denied. */
  readonly required?: boolean;
  /** Records that wait for the service; over it the oldest is dropped and counted. Default 1024. */
  readonly queueRecords?: number;
  /** The first wait before connecting again, which doubles up to `maxDelayMs`. Defaults 100 and 10,000. */
  readonly minDelayMs?: number;
  readonly maxDelayMs?: number;
  /** How long `close` waits for the service to take what is left. Default 1000. */
  readonly closeMs?: number;
  readonly timers?: Timers;
  /** For tests: default is the system's sockets. */
  readonly connect?: LogdConnector;
}

/**
 * Hands records to a log service over a Unix stream socket, at least once: after a lost connection those that were on
 * their way are sent again, and their sequence tells.
 */
export class AuditLogd implements AuditSink {
  readonly name: string;
  readonly required: boolean;
  readonly #path: string;
  readonly #queueRecords: number;
  readonly #minDelayMs: number;
  readonly #maxDelayMs: number;
  readonly #closeMs: number;
  readonly #timers: Timers;
  readonly #connect: LogdConnector;
  /** Oldest first; the first `#sent` are on their way. */
  #queue: string[] = [];
  #sent = 0;
  #dropped = 0;
  #delayMs: number;
  #connection: LogdConnection | undefined;
  #isOpen = false;
  #isClosed = false;
  #cancelRetry: Cancel | undefined;

  /** Starts to connect. @throws TypeError, RangeError for what are no options */
  constructor(options: AuditLogdOptions) {
    assertString(options.path, 'path');
    const { queueRecords = 1024, minDelayMs = 100, maxDelayMs = 10_000, closeMs = 1000 } = options;
    assertInteger(queueRecords, 'queueRecords', 1, 1_000_000);
    assertInteger(minDelayMs, 'minDelayMs', 1);
    assertInteger(maxDelayMs, 'maxDelayMs', minDelayMs);
    assertInteger(closeMs, 'closeMs');
    this.name = options.path;
    this.required = options.required ?? false;
    this.#path = options.path;
    this.#queueRecords = queueRecords;
    this.#minDelayMs = minDelayMs;
    this.#maxDelayMs = maxDelayMs;
    this.#closeMs = closeMs;
    this.#delayMs = minDelayMs;
    this.#timers = options.timers ?? systemTimers;
    this.#connect = options.connect ?? connectSocket;
    this.#open();
  }

  /** Whether there is a connection. */
  get isConnected(): boolean {
    return this.#isOpen;
  }

  /** Records that wait or are on their way. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Records that the service never got. */
  get dropped(): number {
    return this.#dropped;
  }

  /** @throws Error where the record was not taken on, or an older one had to go for it */
  write(record: AuditRecord, _line: string): void {
    if (this.#isClosed) throw new Error(`${this.#path}: the sink was closed`);
    const isFull = this.#queue.length >= this.#queueRecords;
    if (this.required && (isFull || !this.#isOpen)) {
      throw new Error(isFull ? `${this.#queue.length} records wait for the service` : 'there is no connection');
    }
    // What is on its way can't be called back: the oldest that still waits goes, or the new one.
    if (isFull) {
      this.#dropped++;
      if (this.#sent < this.#queue.length) this.#queue.splice(this.#sent, 1);
      else throw new Error(`${this.#queue.length} records are on their way: one more was dropped`);
    }
    this.#queue.push(`${JSON.stringify(entryOf(record))}\n`);
    this.#send();
    if (isFull) throw new Error(`${this.#queue.length} records wait for the service: the oldest was dropped`);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelRetry?.();
    const connection = this.#connection;
    if (connection === undefined || !this.#isOpen) {
      this.#dropped += this.#queue.length;
      this.#queue = [];
      connection?.destroy();
      return;
    }
    connection.end();
    this.#cancelRetry = this.#timers.after(this.#closeMs, () => connection.destroy());
  }

  #open(): void {
    const connection = this.#connect(
      this.#path,
      () => {
        this.#isOpen = true;
        this.#send();
      },
      () => this.#lost(),
    );
    this.#connection = connection;
  }

  #send(): void {
    if (!this.#isOpen || this.#isClosed) return;
    const connection = this.#connection as LogdConnection;
    while (this.#sent < this.#queue.length) {
      const text = this.#queue[this.#sent] as string;
      this.#sent++;
      connection.write(text, () => this.#written(connection));
    }
  }

  #written(connection: LogdConnection): void {
    // A connection that was given up says nothing about what the new one sent.
    if (connection !== this.#connection || this.#sent === 0) return;
    this.#sent--;
    this.#queue.shift();
    // The service takes records: the next trouble starts with the shortest wait.
    this.#delayMs = this.#minDelayMs;
  }

  #lost(): void {
    this.#isOpen = false;
    this.#connection = undefined;
    this.#sent = 0;
    this.#cancelRetry?.();
    if (this.#isClosed) {
      this.#dropped += this.#queue.length;
      this.#queue = [];
      return;
    }
    this.#cancelRetry = this.#timers.after(this.#delayMs, () => this.#open());
    this.#delayMs = Math.min(this.#maxDelayMs, this.#delayMs * 2);
  }
}

function entryOf(record: AuditRecord): LogdEntry {
  const { decision, subject, operation, path, code } = record;
  const level = code === 'EIO' || code === 'EINTEGRITY' ? 'error' : code === 'OK' || code === '' ? 'info' : 'warn';
  const what = [decision === 'none' ? '' : decision, operation, path].filter((part) => part !== '').join(' ');
  const who = subject === '' ? '' : ` for ${subject}`;
  return {
    level,
    scope: 'statefsd.audit',
    message: `${what}${who}${code === '' ? '' : `: ${code}`}`,
    fields: record,
  };
}

const connectSocket: LogdConnector = (path, onOpen, onClose) => {
  const socket = createConnection(path);
  socket.on('connect', onOpen);
  // The reason is of no use here: whatever it was, `close` follows, and the connection is tried again.
  socket.on('error', () => {});
  socket.on('close', onClose);
  // Nothing is expected back; reading shows that the service went away.
  socket.resume();
  return {
    write: (text, onWritten) => void socket.write(text, (error) => error ?? onWritten()),
    end: () => void socket.end(),
    destroy: () => void socket.destroy(),
  };
};
