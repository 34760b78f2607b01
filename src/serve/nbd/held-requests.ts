import type { Cancel, Timers } from '../../core/index.ts';
import type { ServedDisk } from '../disk/served-disk.ts';
import { operationKind, type Request } from './request.ts';

/** Requests that may wait for the disk's latency, or hang. */
const MAX_HELD = 1024;

/** The requests of a connection that the disk's latency, or a fault, keeps from being answered. */
export class HeldRequests {
  readonly #disk: ServedDisk;
  readonly #timers: Timers;
  readonly #onDue: () => void;
  #waiting = 0;
  readonly #hung: Request[] = [];
  readonly #due: Request[] = [];
  readonly #timersSet = new Set<Cancel>();
  #endReleaseWatch: (() => void) | undefined;

  /** @param onDue called, from no operation of the disk, when {@link next} has something */
  constructor(disk: ServedDisk, timers: Timers, onDue: () => void) {
    this.#disk = disk;
    this.#timers = timers;
    this.#onDue = onDue;
  }

  /** Whether no more may be held. */
  get isFull(): boolean {
    return this.#waiting + this.#hung.length >= MAX_HELD;
  }

  /** Whether there are requests that will be answered by and by: those that hang may never be. */
  get isPending(): boolean {
    return this.#waiting > 0 || this.#due.length > 0;
  }

  /** A request that has waited long enough. */
  next(): Request | undefined {
    return this.#due.shift();
  }

  /**
   * To be asked once for each request: of a read before, of others after it was carried out.
   * @returns whether the request is held, as a copy, until {@link next} has it
   */
  holds(request: Request): boolean {
    const kind = operationKind(request.type);
    if (kind === undefined || request.waited) return false;
    // A flush that hangs has not been carried out: it has been asked about.
    if (kind !== 'flush' && this.hangs(request)) return true;
    const delayMs = this.#disk.delayMs(kind, this.#firstSector(request), this.#sectorCount(request));
    if (delayMs === 0) return false;
    const held = aside(request);
    this.#waiting++;
    const cancel = this.#timers.after(delayMs, () => {
      this.#timersSet.delete(cancel);
      this.#waiting--;
      this.#due.push(held);
      this.#onDue();
    });
    this.#timersSet.add(cancel);
    return true;
  }

  /** @returns whether the request is held until the disk lets go what hangs, or its power fails */
  hangs(request: Request): boolean {
    const kind = operationKind(request.type);
    if (kind === undefined) return false;
    if (!this.#disk.hangs(kind, this.#firstSector(request), this.#sectorCount(request))) return false;
    this.#hung.push(aside(request));
    this.#endReleaseWatch ??= this.#disk.onRelease(() => {
      this.#due.push(...this.#hung.splice(0));
      this.#timers.soon(this.#onDue);
    });
    return true;
  }

  /** The connection is gone. */
  close(): void {
    this.#endReleaseWatch?.();
    for (const cancel of this.#timersSet) cancel();
    this.#timersSet.clear();
    this.#due.length = 0;
    this.#hung.length = 0;
  }

  #firstSector({ offset }: Request): number {
    return Math.floor(offset / this.#disk.sectorBytes);
  }

  /** Sectors that a request touches, those in part included; a flush touches none. */
  #sectorCount(request: Request): number {
    return Math.ceil((request.offset + request.length) / this.#disk.sectorBytes) - this.#firstSector(request);
  }
}

function aside(request: Request): Request {
  const held = request.copy();
  held.waited = true;
  return held;
}
