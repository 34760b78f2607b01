import type { Clock } from '../core/index.ts';
import { MAX_PAYLOAD_BYTES } from '../statefs/index.ts';
import { decodeRequest, encodeError, type Fault, isFault, type Request } from './codec.ts';
import { FrameReader, type RawFrame } from './frame-reader.ts';
import { Job } from './job.ts';
import type { Limits } from './limits.ts';
import { FRAME_OVERHEAD_BYTES } from './operations.ts';

/** The other end of a connection, as a transport offers it. No method throws, and none waits. */
export interface Peer {
  /** Takes on a frame, which is the peer's from then on. */
  send(frame: Uint8Array): void;
  /** Bytes that were taken on and not passed on yet. */
  readonly pendingBytes: number;
  /** Asks for no more bytes, until {@link resume}. */
  pause(): void;
  resume(): void;
  /** Closes once everything was passed on. */
  end(): void;
  /** Closes at once. */
  destroy(): void;
}

/** What waits in a session to be answered. */
export type Waiting = Job | Fault;

/** What a session needs of the service. */
export interface SessionHost {
  readonly clock: Clock;
  readonly limits: Limits;
  /** Longest frame that is kept, header included. */
  readonly frameBytes: number;
  /** Something waits, or what waited may go on. */
  ready(session: Session): void;
  /** The session is over. */
  gone(session: Session, reason: string): void;
}

/** No frame is longer, whatever the budgets say. */
export const LARGEST_FRAME_BYTES: number = MAX_PAYLOAD_BYTES + FRAME_OVERHEAD_BYTES;

/** One connection: its subject, the frames that arrive on it, and what waits to be answered. */
export class Session {
  readonly subject: string;
  readonly peer: Peer;
  readonly #host: SessionHost;
  readonly #reader: FrameReader;
  readonly #queue: Waiting[] = [];
  /** Taken to be carried out, and not answered yet. */
  #takenCount = 0;
  #isPaused = false;
  /** No more bytes are taken: the peer has ended, broke the protocol, or is to go. What arrived is still answered. */
  #isEnding = false;
  /** No more frames are read. */
  #isBroken = false;
  #isClosed = false;
  #endReason = '';
  #activeMs: number;
  #partialMs: number | undefined;
  #blockedMs: number | undefined;

  constructor(subject: string, peer: Peer, host: SessionHost) {
    this.subject = subject;
    this.peer = peer;
    this.#host = host;
    this.#reader = new FrameReader(host.frameBytes, LARGEST_FRAME_BYTES);
    this.#activeMs = host.clock.monotonicMs();
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Whether something waits that can be answered now. */
  get isReady(): boolean {
    return this.#queue.length > 0 && !this.isBlocked;
  }

  /** Whether the peer has to take answers before there are more. */
  get isBlocked(): boolean {
    return this.peer.pendingBytes > this.#host.limits.unsentBytes;
  }

  /** From the transport: bytes arrived. They are kept until answered, and must not be changed. */
  receive(chunk: Uint8Array): void {
    if (this.#isEnding || this.#isClosed) return;
    this.#activeMs = this.#host.clock.monotonicMs();
    this.#reader.push(chunk);
    this.#fill();
  }

  /** From the transport: the peer has taken what was sent. */
  drained(): void {
    if (this.#isClosed) return;
    this.#activeMs = this.#host.clock.monotonicMs();
    this.#blockedMs = undefined;
    if (this.isReady) this.#host.ready(this);
  }

  /** From the transport: no more bytes will come. What arrived is still answered. */
  inputEnded(): void {
    this.#endAfterAnswers('the client went away');
  }

  /** From the transport: the connection is gone. What waited is not carried out any more. */
  lost(reason: string): void {
    this.#forget(reason);
  }

  /** Takes what waits longest. */
  take(): Waiting | undefined {
    const next = this.#queue.shift();
    if (next === undefined) return undefined;
    this.#takenCount++;
    // What arrived, and was held back by a full queue.
    if (!this.#isBroken) this.#fill();
    return next;
  }

  /** Sends the answer to what was taken. */
  send(frame: Uint8Array): void {
    if (this.#isClosed) return;
    this.#takenCount--;
    const nowMs = this.#host.clock.monotonicMs();
    this.#activeMs = nowMs;
    this.peer.send(frame);
    if (this.isBlocked) this.#blockedMs ??= nowMs;
    if (this.#isEnding && !this.#isBusy) this.close(this.#endReason);
  }

  /** Takes no more bytes; what arrived is still answered, then the connection ends. */
  finish(): void {
    this.#endAfterAnswers('the server is shutting down');
  }

  /** Ends the connection, with all that was sent. */
  close(reason: string): void {
    if (this.#isClosed) return;
    this.peer.end();
    this.#forget(reason);
  }

  /** Ends the connection if the peer let a time pass. */
  checkTimes(): void {
    const { limits, clock } = this.#host;
    const nowMs = clock.monotonicMs();
    const isOver = (sinceMs: number | undefined, limitMs: number): boolean =>
      sinceMs !== undefined && nowMs - sinceMs > limitMs;
    if (isOver(this.#blockedMs, limits.writeTimeoutMs)) this.#abandon('the client does not take its answers');
    else if (!this.#isPaused && isOver(this.#partialMs, limits.frameTimeoutMs))
      this.#abandon('the client did not finish a frame');
    else if (!this.#isBusy && isOver(this.#activeMs, limits.idleTimeoutMs)) this.close('nothing happened');
  }

  /** What was read last is the last that is answered: what follows can't be told apart. */
  #break(reason: string): void {
    this.#isBroken = true;
    this.#isEnding = true;
    this.#endReason = reason;
  }

  get #isBusy(): boolean {
    return this.#queue.length + this.#takenCount > 0;
  }

  #endAfterAnswers(reason: string): void {
    if (this.#isClosed) return;
    this.#isEnding = true;
    this.#endReason = reason;
    if (!this.#isBusy) this.close(reason);
  }

  #abandon(reason: string): void {
    this.peer.destroy();
    this.#forget(reason);
  }

  #forget(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#isEnding = true;
    this.#queue.length = 0;
    this.#host.gone(this, reason);
  }

  /** Reads frames until the queue is full, and asks the transport to go on or to wait. */
  #fill(): void {
    const { limits, clock, frameBytes } = this.#host;
    this.#reader.capBytes = frameBytes;
    let added = false;
    while (this.#queue.length < limits.queuedRequests) {
      const frame = this.#reader.next();
      if (frame === undefined) break;
      this.#partialMs = undefined;
      this.#queue.push(this.#read(frame));
      added = true;
      if (this.#isBroken) break;
    }
    if (this.#reader.isPartial) this.#partialMs ??= clock.monotonicMs();
    this.#setPaused(this.#isEnding || this.#queue.length >= limits.queuedRequests);
    if (added && this.isReady) this.#host.ready(this);
  }

  #read(frame: RawFrame): Waiting {
    const { clock } = this.#host;
    const request: Request | Fault =
      frame.kind === 'broken'
        ? { nonce: 0, operation: undefined, message: frame.message, isFatal: true }
        : decodeRequest(frame.bytes, frame.kind === 'oversize');
    if (isFault(request)) {
      if (request.isFatal) this.#break(request.message);
      return request;
    }
    return new Job(
      this.subject,
      request,
      clock.monotonicMs(),
      frame.kind === 'oversize' ? frame.frameBytes : undefined,
    );
  }

  #setPaused(isPaused: boolean): void {
    if (isPaused === this.#isPaused) return;
    this.#isPaused = isPaused;
    if (isPaused) {
      this.peer.pause();
      return;
    }
    // As long as nothing was read from it, the peer could not finish its frame.
    if (this.#partialMs !== undefined) this.#partialMs = this.#host.clock.monotonicMs();
    this.peer.resume();
  }
}

/** The frame that answers a fault. */
export function answerFault(fault: Fault): Uint8Array {
  const { operation, nonce, message } = fault;
  return encodeError(operation, nonce, { status: 'EPROTO', inDoubt: false, message });
}
