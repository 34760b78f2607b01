import { type Cancel, invariant, type Prng, type Timers } from '../core/index.ts';
import type { Channel, Connector } from './channel.ts';
import { StateFsClientError } from './client-error.ts';
import { asAgain, decodeResponse, type Response } from './codec.ts';
import { FrameReader } from './frame-reader.ts';
import type { OperationName } from './operations.ts';
import { LARGEST_FRAME_BYTES } from './session.ts';

/**
 * What happens to a call whose answer was lost with the connection.
 *
 * - `repeat`: it changes nothing, so it is sent again
 * - `again`: it is sent again, marked as such; the server tells whether it had been done
 * - `doubt`: it fails, in doubt
 */
export type OnLoss = 'repeat' | 'again' | 'doubt';

/** A request on its way. */
export interface Call {
  readonly operation: OperationName;
  readonly nonce: number;
  readonly onLoss: OnLoss;
  frame: Uint8Array;
  /** It was given to the connection that there is. */
  isSent: boolean;
  /** It was given to an earlier one, which was lost. */
  wasLost: boolean;
  readonly resolve: (response: Response) => void;
  readonly reject: (error: StateFsClientError) => void;
  timer: Cancel | undefined;
}

export interface BackOff {
  /** Milliseconds before the first new attempt. Default 20. */
  readonly firstMs: number;
  /** It doubles up to this. Default 2000. */
  readonly lastMs: number;
}

export interface LinkOptions {
  readonly connect: Connector;
  readonly timers: Timers;
  readonly prng: Prng;
  readonly backOff: BackOff;
  readonly timeoutMs: number;
  readonly maxPending: number;
  readonly onConnected: () => void;
  readonly onLost: (reason: string) => void;
}

type State = 'idle' | 'connecting' | 'open' | 'waiting' | 'closed';

/** A connection that comes back: it sends calls, matches answers, and connects anew with back-off while any are left. */
export class Link {
  readonly #options: LinkOptions;
  /** By nonce, in the order in which they were made. */
  readonly #calls = new Map<number, Call>();
  #state: State = 'idle';
  #channel: Channel | undefined;
  #reader = new FrameReader(LARGEST_FRAME_BYTES, LARGEST_FRAME_BYTES);
  #giveUp: () => void = () => {};
  #cancelWait: Cancel | undefined;
  #nextNonce = 1;
  #failures = 0;
  #lastReason = 'no attempt was made yet';
  #serverSaid: string | undefined;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  /** How many calls wait for an answer. */
  get pendingCount(): number {
    return this.#calls.size;
  }

  /**
   * Sends a request, now or as soon as there is a connection.
   * @param encode makes the frame with a nonce
   */
  call(operation: OperationName, onLoss: OnLoss, encode: (nonce: number) => Uint8Array): Promise<Response> {
    if (this.#state === 'closed') return Promise.reject(new StateFsClientError('ECLOSED', 'the client was closed'));
    const { maxPending, timers, timeoutMs } = this.#options;
    if (this.#calls.size >= maxPending) {
      const message = `${maxPending} requests wait for an answer already: await some of them first`;
      return Promise.reject(new StateFsClientError('EBUSY', message));
    }
    const nonce = this.#nextNonce++;
    const frame = encode(nonce);
    return new Promise((resolve, reject) => {
      const call: Call = {
        operation,
        nonce,
        onLoss,
        frame,
        isSent: false,
        wasLost: false,
        resolve,
        reject,
        timer: undefined,
      };
      call.timer = timers.after(timeoutMs, () => this.#expire(call));
      this.#calls.set(nonce, call);
      if (this.#state === 'open') this.#send(call);
      else if (this.#state === 'idle') this.#connect();
    });
  }

  /** Gives up the connection and everything that waits. */
  close(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#cancelWait?.();
    this.#giveUp();
    this.#channel?.close();
    this.#channel = undefined;
    for (const call of [...this.#calls.values()]) {
      this.#settle(
        call,
        new StateFsClientError('ECLOSED', `${call.operation}: the client was closed`, isInDoubt(call)),
      );
    }
  }

  #connect(): void {
    this.#state = 'connecting';
    this.#serverSaid = undefined;
    this.#reader = new FrameReader(LARGEST_FRAME_BYTES, LARGEST_FRAME_BYTES);
    this.#giveUp = this.#options.connect({
      opened: (channel) => this.#opened(channel),
      received: (bytes) => this.#received(bytes),
      closed: (reason) => this.#lost(reason),
    });
  }

  #opened(channel: Channel): void {
    this.#state = 'open';
    this.#channel = channel;
    this.#options.onConnected();
    for (const call of this.#calls.values()) if (!call.isSent) this.#send(call);
  }

  #send(call: Call): void {
    invariant(this.#channel !== undefined, 'an open link has a channel');
    call.isSent = true;
    this.#channel.write(call.frame);
  }

  #received(bytes: Uint8Array): void {
    this.#reader.push(bytes);
    for (let frame = this.#reader.next(); frame !== undefined; frame = this.#reader.next()) {
      const response = frame.kind === 'frame' ? decodeResponse(frame.bytes) : 'a frame of impossible length';
      if (typeof response === 'string') {
        this.#drop(`the server sent what is no answer: ${response}`);
        return;
      }
      this.#take(response);
    }
  }

  #take(response: Response): void {
    if (response.nonce === 0) {
      this.#refused(response);
      return;
    }
    const call = this.#calls.get(response.nonce);
    if (call === undefined) return;
    this.#failures = 0;
    this.#finish(call);
    call.resolve(response);
  }

  /** What concerns the connection, which ends now. */
  #refused(response: Response): void {
    this.#serverSaid = `${response.status}: ${response.fields['message']}`;
    // It was not admitted: the server read nothing that was sent on it.
    const isAdmitted = response.status !== 'EBUSY' && response.status !== 'ECLOSED';
    if (!isAdmitted) for (const call of this.#calls.values()) call.isSent = false;
  }

  /** Ends the connection from this side. */
  #drop(reason: string): void {
    const channel = this.#channel;
    this.#channel = undefined;
    channel?.close();
    this.#lost(reason);
  }

  #lost(reason: string): void {
    if (this.#state === 'closed' || this.#state === 'waiting' || this.#state === 'idle') return;
    this.#lastReason = this.#serverSaid ?? reason;
    this.#state = 'waiting';
    this.#channel = undefined;
    this.#options.onLost(this.#lastReason);
    for (const call of [...this.#calls.values()]) if (call.isSent) this.#afterLoss(call);
    this.#wait();
  }

  #afterLoss(call: Call): void {
    if (call.onLoss === 'doubt') {
      const message =
        `${call.operation}: the connection was lost before its answer (${this.#lastReason}): read to see whether it was done, ` +
        'or put with a nonce, which can be asked again';
      this.#settle(call, new StateFsClientError('EIO', message, true));
      return;
    }
    call.isSent = false;
    call.wasLost = true;
    if (call.onLoss === 'again') call.frame = asAgain(call.frame);
  }

  #wait(): void {
    const { backOff, prng, timers } = this.#options;
    const fullMs = Math.min(backOff.lastMs, backOff.firstMs * 2 ** Math.min(this.#failures, 30));
    this.#failures++;
    // Half of it is jitter, so that clients that lost one server don't all come back at one moment.
    const delayMs = fullMs / 2 + (fullMs / 2) * (prng.nextU32() / 0xffff_ffff);
    this.#cancelWait = timers.after(
      delayMs,
      () => {
        this.#state = 'idle';
        if (this.#calls.size > 0) this.#connect();
        // The calls that wait have timers of their own.
      },
      false,
    );
  }

  #expire(call: Call): void {
    const wait = call.isSent ? 'no answer came' : `no connection came about (${this.#lastReason})`;
    const message = `${call.operation}: ${wait} within ${this.#options.timeoutMs} ms`;
    this.#settle(call, new StateFsClientError('EIO', message, isInDoubt(call)));
  }

  #finish(call: Call): void {
    call.timer?.();
    this.#calls.delete(call.nonce);
  }

  #settle(call: Call, error: StateFsClientError): void {
    this.#finish(call);
    call.reject(error);
  }
}

function isInDoubt(call: Call): boolean {
  return call.onLoss !== 'repeat' && (call.isSent || call.wasLost);
}
